// Measures pg-boss on the same work as the other queues. Prints one line of JSON. The setting is its `batchSize`.
// PEERS_PG_BOSS is the path of its main module.
const { PgBoss } = await import(process.env.PEERS_PG_BOSS)

const [url, ...numbers] = process.argv.slice(2)
const [SINGLE, BULK, LATENCY, SETTING] = numbers.map(Number)
const BATCH = 1_000
const ARGUMENTS = { a: 0, b: 'a short string' }

const boss = new PgBoss({ connectionString: url, max: 10, useListenNotify: true })
boss.on('error', error => { throw error })
await boss.start()
await boss.createQueue('no_op', { notify: true })

const now = () => performance.now()
const pause = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

let began = now()
for (let a = 0; a < SINGLE; a++) await boss.send('no_op', ARGUMENTS)
const single = SINGLE / (now() - began) * 1_000

began = now()
for (let batch = 0; batch < BULK / BATCH; batch++) {
  await boss.insert('no_op', Array.from({ length: BATCH }, () => ({ data: ARGUMENTS })))
}
const bulk = BULK / (now() - began) * 1_000

let ran = 0
let onStart = null
began = now()
// A worker runs a batch at a time, so its size is also how many jobs run at a time.
const localConcurrency = SETTING > 10 ? 4 : 1
const options = { batchSize: SETTING, localConcurrency, pollingIntervalSeconds: 0.5, burstWhenBatchFull: true }
await boss.work('no_op', options, async jobs => {
  ran += jobs.length
  onStart?.(now())
})
const left = async () => Number((await boss.getDb().executeSql(
  "SELECT count(*) FROM pgboss.job WHERE name = 'no_op' AND state < 'completed'", [])).rows[0].count)
while (ran < SINGLE + BULK || await left() > 0) await pause(5)
const work = (SINGLE + BULK) / (now() - began) * 1_000

const latency = []
for (let a = 0; a < LATENCY; a++) {
  await pause(20)
  const started = new Promise(resolve => { onStart = resolve })
  const deferred = now()
  await boss.send('no_op', ARGUMENTS)
  latency.push(await started - deferred)
}
await boss.stop({ graceful: false })
console.log(JSON.stringify({ single, bulk, work, latency }))
process.exit(0)
