// One node of the cluster in Node.js: asks for one client at a steady rate and says ten times a second what it got.
//
// Arguments: ADDON NODE LISTEN SEEDS CERTS SNAPSHOT LIMIT RATE. Input: a line "limit TEXT" changes the limit on all nodes; the end of the
// input says goodbye.
'use strict'
const readline = require('node:readline')

const [, , addon, node, listen, seeds, certs, snapshot, limit, rate] = process.argv
const { Limiter } = require(addon)
const limiter = new Limiter({
  limits: limit,
  path: snapshot,
  snapshotEveryMs: 100,
  cluster: { node, listen, seeds: seeds.split(','), certs },
})
limiter.ready(0)

let offered = 0
let admitted = 0
const start = performance.now()
let told = start
const tell = () => process.stdout.write(`${admitted} ${offered}\n`)
const timer = setInterval(() => {
  const now = performance.now()
  const due = Math.floor(((now - start) / 1000) * Number(rate))
  for (; offered < due; offered++) admitted += limiter.isAllowed('client-7') ? 1 : 0
  if (now - told >= 100) {
    told = now
    tell()
  }
}, 1)

const input = readline.createInterface({ input: process.stdin })
input.on('line', (line) => limiter.setLimit(line.replace(/^limit /, '').trim()))
input.on('close', () => {
  clearInterval(timer)
  limiter.close()
  tell()
})
