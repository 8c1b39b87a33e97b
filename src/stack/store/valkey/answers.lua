-- Reads the answers of several contacts of a scope.
-- KEYS: scope, then the answers.
-- Returns: now in us, epoch, rejected in ms (nil when absent), and the list of the answers.
local epoch, rejected = scope(KEYS[1])
local answers = {}
for at = 2, #KEYS do answers[at - 1] = value(KEYS[at]) end
return {now(), epoch or false, rejected or false, answers}
