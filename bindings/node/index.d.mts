import ratelimit = require('./index.js');

export * from './index.js';
export default ratelimit;
