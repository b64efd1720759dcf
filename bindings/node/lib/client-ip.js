'use strict';
// The client's address behind proxies.

const { native, misuse, refuseOthers } = require('./core.js');

/** What `trustedProxies` takes, as the text that is parsed in Rust. */
function trustedText(trusted) {
  if (Number.isSafeInteger(trusted) && trusted >= 0) return String(trusted);
  if (typeof trusted === 'string') return trusted;
  if (Array.isArray(trusted) && trusted.every((each) => typeof each === 'string')) return trusted.join(',');
  throw misuse('argument', 'trustedProxies takes a whole number, a text like "10.0.0.0/8", or an array of such texts');
}

class TrustedProxies {
  #proxies;
  #header;

  constructor(trustedProxies, options = {}) {
    refuseOthers(options, ['header', 'ipv6Prefix'], 'TrustedProxies');
    this.#proxies = new native.Proxies(trustedText(trustedProxies), options.header, options.ipv6Prefix);
    this.#header = this.#proxies.headerName();
  }

  get header() {
    return this.#header;
  }

  /** `headers` as Node has them: names in lower case, values that are texts or arrays of texts. */
  clientIp(peer, headers) {
    const value = headers[this.#header];
    let values = [];
    if (value !== undefined) values = Array.isArray(value) ? value : [value];
    return this.#proxies.clientIp(peer ?? '', values);
  }
}

function clientIp(peer, headers, trustedProxies, options) {
  const proxies =
    trustedProxies instanceof TrustedProxies ? trustedProxies : new TrustedProxies(trustedProxies, options);
  return proxies.clientIp(peer, headers);
}

module.exports = { TrustedProxies, clientIp };
