-- Runs between the router and the machine it chose, once for each attempt. An answer that asks for a replay becomes the one
-- thing that makes Envoy send the same request again: a redirect, to a host that only the edge knows.

-- A machine that was not the one asked for is told so, and one that a replay came back to is told that.
function envoy_on_request(handle)
  local headers = handle:headers()
  -- Not by a header: what is removed for one attempt is missing for the next.
  local toward = (handle:streamInfo():dynamicMetadata():get("edge") or {}).toward
  local region = headers:get("x-edge-chosen-region")
  headers:remove("x-edge-cluster")
  headers:remove("x-edge-chosen-region")
  if toward and toward ~= region then
    headers:replace("fly-replay-failed", ("region=%s;reason=no_candidate"):format(toward))
  end
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
