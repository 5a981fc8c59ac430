-- ARGV begins with how far the caller has seen the records: farm id, epoch, farm clock; what is left is the script's
-- own. Records that are another farm's, empty or older are not touched.
do
  local farm, epoch, at = table.remove(ARGV, 1), tonumber(table.remove(ARGV, 1)), tonumber(table.remove(ARGV, 1))
  local m = call('HMGET', key('meta'), 'farm_id', 'epoch', 'clock')
  local e, c = tonumber(m[2] or '1'), tonumber(m[3] or '0')
  if m[1] ~= farm or e < epoch or (e == epoch and c < at) then return redis.error_reply('RECORDS LOST') end
end
