-- Runs once for every request of a user, and again for every replay of it. What a user sent is never
-- believed: only Envoy's own count of redirects, which no header can set, tells a replay.

local CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
local OURS = { "^x%-edge%-", "^x%-envoy%-", "^fly%-replay" }
local FORGED = { ["fly-client-ip"] = true, ["fly-region"] = true, ["fly-request-id"] = true,
  ["fly-forwarded-port"] = true, ["fly-preferred-instance-unavailable"] = true }
local FULL = "[PR01] every machine that could serve this is at its limit"
local OUR_ANSWERS = { "x-edge-replay", "x-edge-machine", "x-edge-region" }

math.randomseed(os.time() + tonumber(tostring({}):match("0x(%x+)") or "0", 16) % 2 ^ 31)

local function refuse(handle, status, text)
  local headers = { [":status"] = tostring(status), ["content-type"] = "text/plain" }
  if status == 503 then
    headers["retry-after"] = "1"
  end
  handle:respond(headers, text .. "\n")
end

local function send(handle, wish, tried)
  if wish.prefer then
    handle:headers():replace("x-edge-preferred", wish.prefer)
  else
    handle:headers():remove("x-edge-preferred")
  end
  if not (wish.instance or wish.prefer or wish.regions[1] or next(tried)) then
    return true
  end
  local list = places(wish, tried, handle:metadata():get("machines") or {})
  if #list == 0 then
    return refuse(handle, 503, FULL)
  end
  handle:streamInfo():dynamicMetadata():set("envoy.lb", "fallback_list", list)
  return true
end

local function one_of_list(list, value)
  for _, item in ipairs(list or {}) do
    if item == value then
      return true
    end
  end
  return false
end

-- Sends a replay to its region and, where nobody is found there, back to the one that it came from. By the
-- cluster that has this edge's own region behind the other, which also helps before checks have noticed.
local function send_toward(handle, region, back)
  local known = handle:metadata()
  handle:streamInfo():dynamicMetadata():set("edge", "toward", region)
  if back ~= known:get("region") or not one_of_list(known:get("toward"), region) then
    return send(handle, { regions = { region, back }, strict = true }, {})
  end
  handle:headers():replace("x-edge-cluster", known:get("service") .. "~" .. region)
  handle:streamInfo():dynamicMetadata():set("edge", "by_cluster", true)
  handle:clearRouteCache()
end

local function request_id(handle)
  local id, time = {}, tonumber(handle:timestamp())
  for i = 10, 1, -1 do
    id[i] = CROCKFORD:byte(time % 32 + 1)
    time = math.floor(time / 32)
  end
  for i = 11, 26 do
    id[i] = CROCKFORD:byte(math.random(32))
  end
  return string.char(unpack(id)) .. "-" .. handle:metadata():get("region")
end

-- Takes away whatever only this edge may say, and says it.
local function introduce(handle, headers)
  local forged = {}
  for name in pairs(headers) do
    local ours = FORGED[name]
    for _, prefix in ipairs(OURS) do
      ours = ours or name:find(prefix)
    end
    if ours then
      forged[#forged + 1] = name
    end
  end
  for _, name in ipairs(forged) do
    headers:remove(name)
  end
  headers:replace("fly-request-id", request_id(handle))
  local address = handle:streamInfo():downstreamRemoteAddress():match("^%[?(.-)%]?:%d+$")
  local before = headers:get("x-forwarded-for")
  headers:replace("x-forwarded-for", before and before .. ", " .. address or address)
end

local function first(handle, headers)
  introduce(handle, headers)
  local told = handle:streamInfo():dynamicMetadata()
  if headers:get("flyio-debug") == "doit" then
    told:set("edge", "debug", true)
  end
  if headers:get("upgrade") then
    told:set("edge", "upgrade", true)
  end
  local length = tonumber(headers:get("content-length") or nil)
  if send(handle, wish_of_user(headers), {}) and length and length > 0
    and length <= handle:metadata():get("body_limit") then
    -- Whole, before any machine sees it: Envoy replays only what it has received. Comes last, since
    -- nothing taken from the handle before may be used after this.
    handle:body()
  end
end

local function again(handle, headers)
  local host, path = headers:get("x-envoy-original-url"):match("^%l+://([^/?]*)(.*)$")
  headers:replace(":authority", host)
  headers:replace(":path", path)
  local fields = parse_replay(headers:get("x-edge-replay") or "")
  if fields == nil then
    return refuse(handle, 502, "[PA03] the app answered with a fly-replay header that is not valid")
  elseif fields.app then
    return refuse(handle, 502, "[PA04] the app asked for a replay to an app that is not here")
  end
  local source, state = headers:get("fly-replay-src"), fields.state
  local wish, tried = wish_of_replay(fields), {}
  if not (fields.region or fields.instance or fields.prefer_instance) then
    -- Only moved on by a full machine: what was asked for before still holds.
    local before = parse_replay(headers:get("x-edge-wish") or "")
    wish = before and wish_of_replay(before) or wish_of_user(headers)
    state = state or (source or ""):match("state=(.*)$")
  else
    headers:replace("x-edge-wish", headers:get("x-edge-replay"))
  end
  local machine, came_from = headers:get("x-edge-machine"), headers:get("x-edge-region")
  local refused = (headers:get("x-edge-refused") or "")
  if fields.elsewhere == "true" then
    refused = refused .. "," .. machine
    headers:replace("x-edge-refused", refused)
  end
  for _, id in ipairs(split(refused)) do
    tried[id] = true
  end
  headers:replace("fly-replay-src", ("instance=%s;region=%s;t=%s%s"):format(machine,
    came_from, handle:timestampString(EnvoyTimestampResolution.MICROSECOND),
    state and ";state=" .. state or ""))
  headers:remove("x-envoy-original-url")
  for _, name in ipairs(OUR_ANSWERS) do
    headers:remove(name)
  end
  if may_fall_back(fields, wish, tried) then
    send_toward(handle, wish.regions[1], came_from)
  else
    send(handle, wish, tried)
  end
end

function envoy_on_request(handle)
  local replayed = handle:streamInfo():filterState():get("num_internal_redirects")
  local done, failure = pcall(replayed and again or first, handle, handle:headers())
  if not done then
    handle:logErr(failure)
    refuse(handle, 500, "the edge failed")
  end
end

-- A replay that comes this far is one that Envoy did not make: say why.
local function unreplayed(handle, headers, replay, upgrade)
  local hops = tonumber(handle:streamInfo():filterState():get("num_internal_redirects") or 0)
  local fields = parse_replay(replay) or {}
  local status, text = 502, "[PA01] the body is too large to replay, or was not yet received"
  if upgrade or hops >= handle:metadata():get("replay_limit") then
    text = "[PA02] the request was replayed too often"
    if upgrade or fields.elsewhere == "true" then
      status, text = 503, FULL
      headers:replace("retry-after", "1")
    end
  end
  headers:replace(":status", tostring(status))
  headers:replace("content-type", "text/plain")
  headers:remove("location")
  handle:body(true):setBytes(text .. "\n")
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local replay, machine, region =
    headers:get("x-edge-replay"), headers:get("x-edge-machine"), headers:get("x-edge-region")
  for _, name in ipairs(OUR_ANSWERS) do
    headers:remove(name)
  end
  local told = handle:streamInfo():dynamicMetadata():get("edge") or {}
  if told.debug then
    headers:replace("flyio-debug", ('{"nr":"%s","sr":"%s","sid":"%s"}'):format(
      handle:metadata():get("region"), region or "", machine or ""))
  end
  if replay then
    unreplayed(handle, headers, replay, told.upgrade)
  end
end
