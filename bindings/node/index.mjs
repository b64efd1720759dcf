import ratelimit from './index.js';

export const { Limiter, RateLimitError, errorCodes, version } = ratelimit;
export default ratelimit;
