-- What is known of a repo, as it stands in its field (common/chain.py says what is where), for the scripts after this.
local NO_REV, NO_DATA, UNTOLD = ('\0'):rep(8), ('\0'):rep(16), ('\0'):rep(11)
local JOBS, COUNTS, PREFIX = 'repo_backfill_high', 'repo_chain', 'repo_chain:'

-- Lua's own < on strings goes by the locale of the server.
local function later(rev, other)
  local high, low = struct.unpack('>I4I4', rev)
  local other_high, other_low = struct.unpack('>I4I4', other)
  return high > other_high or (high == other_high and low > other_low)
end

local function is_desynchronised(repo)
  return not repo.status:find('[nwWf]')
end

local function read(key, field)
  local raw = redis.call('HGET', key, field)
  if not raw then
    return {is_new = true, status = 'n', account = '+', rev = NO_REV, data = NO_DATA, mark = NO_REV, told = ''}
  end
  local status, account, rev, data = struct.unpack('c1c1c8c16', raw)
  local has_mark = status ~= 'n' and status ~= 'w'
  local mark = has_mark and raw:sub(27, 34) or rev
  return {status = status, account = account, rev = rev, data = data, mark = mark, told = raw:sub(has_mark and 35 or 27)}
end

local function write(key, field, repo)
  if repo.status == 'W' and repo.mark == repo.rev then repo.status = 'w' end
  local mark = (repo.status == 'n' or repo.status == 'w') and '' or repo.mark
  redis.call('HSET', key, field, repo.status .. repo.account .. repo.rev .. repo.data .. mark .. repo.told)
end

-- Moves the two counts; most steps move neither.
local function count(repos, desynchronised)
  if repos ~= 0 then redis.call('HINCRBY', COUNTS, 'repos', repos) end
  if desynchronised ~= 0 then redis.call('HINCRBY', COUNTS, 'desynchronised', desynchronised) end
end
