-- Runs between the router and the machine it chose, once for each attempt. An answer that asks for a replay becomes the one
-- thing that makes Envoy send the same request again: a redirect, to a host that only the edge knows.

-- A machine that was not the one asked for is told so.
function envoy_on_request(handle)
  local headers = handle:headers()
  local preferred, chosen = headers:get("x-edge-preferred"), headers:get("x-edge-chosen")
  headers:remove("x-edge-preferred")
  headers:remove("x-edge-chosen")
  if preferred and preferred ~= chosen then
    headers:replace("fly-preferred-instance-unavailable", preferred)
  end
end

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
