import ratelimit from './index.js';

export const { Limiter, Rules, TrustedProxies, clientIp, RateLimitError, errorCodes, version } = ratelimit;
export default ratelimit;
