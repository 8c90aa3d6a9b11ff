-- Runs between the router and the machine it chose. An answer that asks for a replay becomes the one
-- thing that makes Envoy send the same request again: a redirect, to a host that only the edge knows.

function envoy_on_response(handle)
  local headers = handle:headers()
  local replay = headers:get("fly-replay")
  if replay == nil or headers:get(":status") == "101" then
    return
  end
  headers:remove("fly-replay")
  headers:replace("x-edge-replay", replay)
  headers:replace(":status", "307")
  headers:replace("location", "http://replay.edge/")
end
