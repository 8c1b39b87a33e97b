-- Functions that come before each script on records. A record of another kind counts as absent.

-- The result of a reading command, or `absent` if the record is of another kind.
local function kind(result, absent)
  if type(result) ~= 'table' or not result.err then return result end
  if result.err:find('WRONGTYPE', 1, true) then return absent end
  error(result.err)
end

-- The value, or false.
local function value(key) return kind(redis.pcall('GET', key), false) end

-- The fields of a scope's record: epoch, rejected and answered in ms, each nil when it is absent. A record
-- without an epoch of 16 bytes is none.
local function scope(key)
  local fields = kind(redis.pcall('HMGET', key, 'e', 'r', 'o'), {})
  if #(fields[1] or '') ~= 16 then return nil end
  return fields[1], tonumber(fields[2] or nil), tonumber(fields[3] or nil)
end

-- The time in the header of a sealed value, in ms; -1 for no value.
local function header(sealed)
  return sealed and #sealed > 8 and struct.unpack('>I8', sealed:sub(2, 9)) or -1
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
