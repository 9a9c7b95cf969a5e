-- A snapshot of the repo is on the stream, whole. KEYS: bucket. ARGV: field, rev, first half of the root's digest.
local key, field, rev, data = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local repo = read(key, field)
local was_out_of_step = is_desynchronised(repo)
if (was_out_of_step or repo.status == 'f') and later(repo.mark, rev) then return 'BEHIND' end
local told = repo.status == 'W' and repo.mark or repo.rev
repo.status, repo.mark = 'W', told
if later(rev, repo.rev) then repo.rev, repo.data = rev, data end
if repo.account == 'm' then repo.account = '+' end -- its server serves it, and commits of it come
write(key, field, repo)
count(repo.is_new and 1 or 0, was_out_of_step and -1 or 0)
return 'OK'
