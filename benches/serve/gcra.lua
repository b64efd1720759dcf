-- GCRA as scripts for Redis commonly have it; the arithmetic, the calls and the replies are those of go-redis/redis_rate.
-- KEYS[1]: the client. ARGV: burst, rate, period in seconds, cost.
redis.replicate_commands()

local burst = ARGV[1]
local rate = ARGV[2]
local period = ARGV[3]
local cost = tonumber(ARGV[4])

local emission_interval = period / rate
local increment = emission_interval * cost
local burst_offset = emission_interval * burst

-- Seconds since 2017, so that a double keeps microseconds when it is written with 14 digits.
local now = redis.call("TIME")
now = (now[1] - 1483228800) + (now[2] / 1000000)

local tat = redis.call("GET", KEYS[1])
if not tat then
  tat = now
else
  tat = tonumber(tat)
end
tat = math.max(tat, now)

local new_tat = tat + increment
local diff = now - (new_tat - burst_offset)
local remaining = diff / emission_interval

if remaining < 0 then
  return { 0, 0, tostring(-diff), tostring(tat - now) }
end

local reset_after = new_tat - now
if reset_after > 0 then
  redis.call("SET", KEYS[1], new_tat, "EX", math.ceil(reset_after))
end
return { cost, remaining, tostring(-1), tostring(reset_after) }
