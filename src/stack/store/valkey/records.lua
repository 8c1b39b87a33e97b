-- Functions that come before each script on records. A record of another kind counts as absent.

-- The result of a reading command, or `absent` if the record is of another kind.
local function kind(result, absent)
  if type(result) ~= 'table' or not result.err then return result end
  if result.err:find('WRONGTYPE', 1, true) then return absent end
  error(result.err)
end

-- The value, or false.
local function value(key) return kind(redis.pcall('GET', key), false) end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Notes a rejection in ms under a new epoch, which hides all stored answers. Returns the epoch; nil and the
-- error when it cannot be written.
local function renew_epoch(key, epoch, rejected)
  local new = redis.sha1hex(epoch .. string.format('%.0f', now())):sub(1, 16)
  local set = redis.pcall('HSET', key, 'e', new, 'r', string.format('%.0f', rejected), 'o', '0')
  if type(set) == 'table' and set.err then return nil, set end
  return new
end

-- The fields of a scope's record: epoch, rejected and answered in ms, each nil when it is absent. A record
-- without an epoch of 16 bytes is none.
-- A rejection whose time has not come is from before the clock was set back. It counts as one of now, and
-- because the times of the stored answers are from then, too, a new epoch hides them. A record that
-- cannot be written then counts as absent.
local function scope(key)
  local fields = kind(redis.pcall('HMGET', key, 'e', 'r', 'o'), {})
  local epoch, rejected, answered = fields[1] or '', tonumber(fields[2] or nil), tonumber(fields[3] or nil)
  if #epoch ~= 16 then return nil end
  local present = math.floor(now() / 1000)
  if not rejected or rejected <= present then return epoch, rejected, answered end
  return renew_epoch(key, epoch, present), present, 0
end

-- The time in the header of a sealed value, in ms; -1 for no value.
local function header(sealed)
  return sealed and #sealed > 8 and struct.unpack('>I8', sealed:sub(2, 9)) or -1
end
