-- For wrk: checks of 100,000 clients at random.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function request()
  return wrk.format(nil, "/v1/check", nil, '{"key":"user:' .. math.random(0, 99999) .. '"}')
end
