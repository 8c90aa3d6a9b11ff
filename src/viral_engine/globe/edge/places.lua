-- Where a request should go: what users and machines may ask for, and the places that this leaves. Pure
-- functions; request.lua calls them.

-- "a, b" -> { "a", "b" }
local function split(list)
  local items = {}
  for item in (list or ""):gmatch("[^,%s]+") do
    items[#items + 1] = item
  end
  return items
end

local function one_of(...)
  local allowed = {}
  for _, word in ipairs({ ... }) do
    allowed[word] = true
  end
  return function(value)
    return allowed[value]
  end
end

local function like(pattern)
  return function(value)
    return value:find(pattern)
  end
end

-- The fields of fly-replay and what each may hold. timeout is understood, and always 1 s for each machine.
local FIELDS = {
  region = like("^[%l%d]+[%l%d, ]*$"),
  instance = like("^[%w_-]+$"),
  prefer_instance = like("^[%w_-]+$"),
  elsewhere = one_of("true", "false"),
  app = like("^[%w_-]+$"),
  state = like(""),
  timeout = like("^%d+m?s$"),
  fallback = one_of("force_self", "prefer_self"),
}

-- region="iad,lhr";state=x -> { region = "iad,lhr", state = "x" }, or nil when it is not valid
local function parse_replay(header)
  local fields, rest = {}, header
  while rest:find("%S") do
    local key, after = rest:match("^%s*([%l_]+)%s*=%s*(.*)$")
    if key == nil or FIELDS[key] == nil or fields[key] ~= nil then
      return nil
    end
    local value, left = after:match('^"([^"]*)"%s*(.*)$')
    if value == nil then
      value, left = after:match("^([^;]-)%s*(;.*)$")
      value, left = value or after:match("^(.-)%s*$"), left or ""
      if key ~= "state" and value:find('[,"]') then
        return nil
      end
    end
    if not FIELDS[key](value) or not left:find("^;") and left ~= "" then
      return nil
    end
    fields[key], rest = value, left:sub(2)
  end
  return (fields.region or fields.instance or fields.prefer_instance or fields.app
    or fields.elsewhere == "true") and fields or nil
end

-- What the user asks for by request headers.
local function wish_of_user(headers)
  local forced = headers:get("fly-force-region")
  return {
    instance = headers:get("fly-force-instance-id"),
    prefer = headers:get("fly-prefer-instance-id"),
    regions = split(forced or headers:get("fly-prefer-region")),
    strict = forced ~= nil,
  }
end

-- What a machine asks for by its answer.
local function wish_of_replay(fields)
  local regions = split(fields.region)
  local strict = #regions > 0 and regions[#regions] ~= "any"
  if #regions > 0 and not strict then
    regions[#regions] = nil
  end
  return { instance = fields.instance, prefer = fields.prefer_instance, regions = regions, strict = strict }
end

-- Whether a replay that finds nobody comes back to the region of this edge.
local function may_fall_back(fields, wish, tried)
  return fields.fallback and #wish.regions == 1 and wish.strict and next(tried) == nil
    and not (wish.instance or wish.prefer)
end

local function shuffle(items)
  for i = #items, 2, -1 do
    local j = math.random(i)
    items[i], items[j] = items[j], items[i]
  end
  return items
end

-- The places to try, in order, as Envoy's subset balancer reads them; the first with a healthy machine
-- serves. `machines` is a list of { region = "lhr", ids = { ... } }, nearest first. After a machine said
-- "elsewhere", machines are named one by one, so that no refusal is asked for twice.
local function places(wish, tried, machines)
  if wish.instance then
    return tried[wish.instance] and {} or { { machine = wish.instance } }
  end
  local list, seen = {}, {}
  if wish.prefer and not tried[wish.prefer] then
    list[1] = { machine = wish.prefer }
  end
  local function add(region)
    if seen[region] then
      return
    end
    seen[region] = true
    if next(tried) == nil then
      list[#list + 1] = { region = region }
      return
    end
    for _, here in ipairs(machines) do
      for _, id in ipairs(here.region == region and shuffle(here.ids) or {}) do
        if not tried[id] then
          list[#list + 1] = { machine = id }
        end
      end
    end
  end
  for _, region in ipairs(wish.regions) do
    add(region)
  end
  for _, here in ipairs(wish.strict and {} or machines) do
    add(here.region)
  end
  return list
end
