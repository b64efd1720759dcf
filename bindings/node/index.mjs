import ratelimit from './index.js';

export const { Limiter, TrustedProxies, clientIp, RateLimitError, errorCodes, version } = ratelimit;
export default ratelimit;
