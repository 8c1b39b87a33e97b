-- Reads the record of a scope.
-- KEYS: scope.
-- Returns: epoch and rejected in ms, each nil when absent.
local epoch, rejected = scope(KEYS[1])
return {epoch or false, rejected or false}
