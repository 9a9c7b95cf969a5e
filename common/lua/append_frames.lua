-- Frames that another source may have told already, each judged by what is known of its repo; what is new goes to the
-- stream, what is known is moved on, and the cursor with them: all in one step, or nothing.
-- KEYS: stream, cursor, source. ARGV: field, expected cursor, new cursor; then for each frame its step and its payloads.
-- The answer's verdicts, a letter for each frame, are those of chain.py.
local stream, cursor, source = KEYS[1], KEYS[2], KEYS[3]
local field, expected, new = ARGV[1], ARGV[2], ARGV[3]
local stored = redis.call('GET', cursor) or ''
if stored == new then
  return {'ALREADY', redis.call('XLEN', stream), redis.call('HGET', source, 'verdicts') or ''}
end
if stored ~= expected then return {'FENCED', stored} end

-- Up to here this source has told us everything once: what comes again has been asked for again.
local newest = expected ~= '' and tonumber(redis.call('HGET', source, 'newest') or 0) or 0
local repos, desynchronised = 0, 0

local function queue(step, reason)
  local rev, did, flaw = step.tail:match('^(%S*) (%S+) (%S*)$')
  local job = '{"did":"' .. did .. '","host":"","rev":"' .. (step.is_fork and '' or rev) .. '","status":null,"active":true,'
  job = job .. '"attempts":0,"reason":"' .. (reason or flaw) .. '","priority":"high"}'
  redis.call('XADD', JOBS, '*', 'repo', job)
end

-- One job for each time that a repo falls out of step, however many commits follow before it is fetched.
local function break_chain(repo, step, status, reason)
  local verdict = is_desynchronised(repo) and 'X' or 'x'
  if verdict == 'x' then
    repo.status = status
    desynchronised = desynchronised + 1
    queue(step, reason)
  end
  repo.mark = repo.rev
  return verdict
end

-- The newest rev that stands on the stream; a snapshot may have brought us further.
local function newest_told(repo)
  return repo.status == 'W' and repo.mark or repo.rev
end

local function gate(repo, step)
  if repo.account == 'm' then return 'i' end
  repo.account = 'm'
  queue(step, 'inactive')
  return 'j'
end

local function adopt(repo, step)
  repo.status, repo.mark = step.is_whole and 'w' or 'f', step.rev
  repo.rev, repo.data = step.rev, step.data
  return 'n'
end

local function move_on(repo, step)
  if repo.status == 'W' then repo.mark = step.rev end
  repo.rev, repo.data = step.rev, step.data
end

local function take_commit(repo, step)
  if repo.status ~= 'n' and not later(step.rev, newest_told(repo)) then return 'd' end
  if repo.account ~= '+' then return gate(repo, step) end
  if repo.status == 'n' and step.kind == 'c' then return adopt(repo, step) end
  if not later(step.rev, repo.rev) then -- a snapshot has it, the stream has not
    repo.mark = step.rev
    return 'o'
  end
  if step.kind == 'p' then
    move_on(repo, step)
    return break_chain(repo, step, 'v')
  end
  local fits = step.before ~= NO_DATA and step.before == repo.data
  if step.before == NO_DATA then fits = step.since ~= NO_REV and step.since == repo.rev end
  move_on(repo, step)
  if fits then return is_desynchronised(repo) and 'w' or 'a' end
  return break_chain(repo, step, 'c', 'broken_chain')
end

local function take_sync(repo, step)
  local is_fork = step.rev == repo.rev and step.data ~= repo.data
  if repo.status ~= 'n' and not is_fork and not later(step.rev, newest_told(repo)) then return 'd' end
  if repo.account ~= '+' then return gate(repo, step) end
  if repo.status == 'n' then return adopt(repo, step) end
  if not is_fork and not later(step.rev, repo.rev) then
    repo.mark = step.rev
    return 'o'
  end
  local is_same = step.data == repo.data
  move_on(repo, step)
  if is_same then return is_desynchronised(repo) and 'w' or 's' end
  step.is_fork = is_fork -- who has fetched this rev may have the other root
  return break_chain(repo, step, 's', 'sync')
end

-- By the order of one source; between two sources, whose numbers say nothing of each other, by the event's time.
local function is_stale(known, told, is_replay)
  if known == UNTOLD or (not is_replay and known:sub(10) == told:sub(10)) then return false end
  local known_time, time = struct.unpack('>I7', known), struct.unpack('>I7', told)
  return time < known_time or (time == known_time and known:sub(8, 9) == told:sub(8, 9))
end

local function take_told(repo, step)
  local account, identity = repo.told:sub(1, 11), repo.told:sub(12)
  if account == '' then account, identity = UNTOLD, UNTOLD end
  if is_stale(step.kind == 'a' and account or identity, step.told, step.seq <= newest) then return 'd' end
  repo.told = step.kind == 'a' and step.told .. identity or account .. step.told
  if step.says == '-' and repo.account == '+' then repo.account = '-' end
  if step.says == '!' then return break_chain(repo, step, 'u', 'account_desynchronised') end
  if step.says == '+' and repo.account ~= '+' then
    local is_due = repo.account == 'm' or is_desynchronised(repo)
    repo.account = '+'
    if is_due and break_chain(repo, step, 'r', 'reactivated') == 'X' then queue(step, 'reactivated') end
    return is_due and 'x' or 't'
  end
  return 't'
end

local function take_loss(repo, step)
  if step.seq <= newest or (step.rev ~= NO_REV and not later(step.rev, repo.rev)) then return 'd' end
  if repo.account ~= '+' then return 'i' end
  return break_chain(repo, step, 'v')
end

local TAKE = {c = take_commit, p = take_commit, s = take_sync, a = take_told, i = take_told, v = take_loss}

local unpacked = struct.unpack

local function parsed(raw)
  local step = {kind = raw:sub(1, 1)}
  if step.kind == '-' then
    step.payloads = unpacked('>I2', raw, 2)
    return step
  end
  local bucket, length, at
  step.payloads, step.seq, bucket, length, at = unpacked('>I2I7c5I2', raw, 2)
  step.key, step.field = PREFIX .. bucket, raw:sub(at, at + length - 1)
  at = at + length
  if step.kind == 'v' then
    step.rev, at = unpacked('c8', raw, at)
  elseif step.kind == 'a' or step.kind == 'i' then
    step.told, step.says, at = unpacked('c11c1', raw, at)
  else
    step.rev, step.data, step.since, step.before, step.is_whole, at = unpacked('c8c16c8c16c1', raw, at)
    step.is_whole = step.is_whole == 'w'
  end
  step.tail = raw:sub(at)
  return step
end

local function judged(step)
  local repo = read(step.key, step.field)
  local verdict = TAKE[step.kind](repo, step)
  if verdict == 'd' then return step.seq <= newest and 'r' or 'd' end
  if repo.is_new then repos = repos + 1 end
  write(step.key, step.field, repo)
  return verdict
end

local verdicts, at = {}, 4
while at <= #ARGV do
  local step = parsed(ARGV[at])
  local verdict = step.kind == '-' and '-' or judged(step)
  if not verdict:find('[dij]') then
    for i = at + 1, at + step.payloads do redis.call('XADD', stream, '*', field, ARGV[i]) end
  end
  verdicts[#verdicts + 1] = verdict
  at = at + 1 + step.payloads
end
count(repos, desynchronised)
verdicts = table.concat(verdicts)
redis.call('SET', cursor, new)
if expected == '' or tonumber(new) > newest then redis.call('HSET', source, 'newest', new) end
redis.call('HSET', source, 'verdicts', verdicts)
return {'OK', redis.call('XLEN', stream), verdicts}
