// One of the processes that hold one limit together: asks CALLS times for one client and prints how often it was allowed.
'use strict'
const [, , addon, name, calls] = process.argv
const { Limiter } = require(addon)
const limiter = new Limiter({ limits: '100/day', maxKeys: 1000, share: name })
let allowed = 0
for (let call = 0; call < Number(calls); call++) allowed += limiter.isAllowed('client-7') ? 1 : 0
limiter.close()
console.log(allowed)
