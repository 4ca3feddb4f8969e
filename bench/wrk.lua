-- Arguments after `--`: method, bytes of request body. The last line of output is for bench/load.py.
local size

function init(args)
  wrk.method = args[1] or "GET"
  size = tonumber(args[2] or "0")
  if size > 0 then
    wrk.body = string.rep("x", size)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    "RESULT %d %d %d %d %d %d\n",
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
