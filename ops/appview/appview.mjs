// The Bluesky AppView on a database that Sluice fills: its data plane and its API, and nothing that indexes.
// docs/appview.md says how to run it.
import { BskyAppView, DataPlaneServer, Database, ServerConfig } from '@atproto/bsky'
import { Secp256k1Keypair } from '@atproto/crypto'

const { DATABASE_URL, DATABASE_SCHEMA = 'bsky', PLC_URL = 'https://plc.directory', BSKY_PORT = '2584' } = process.env
const dataPlanePort = Number(BSKY_PORT) + 1

const db = new Database({ url: DATABASE_URL, schema: DATABASE_SCHEMA, poolSize: 20 })
await db.migrateToLatestOrThrow() // finds nothing to do; after an update of the AppView it may
await DataPlaneServer.create(db, dataPlanePort, PLC_URL)

const config = ServerConfig.readEnv({ dataplaneUrls: [`http://127.0.0.1:${dataPlanePort}`] })
const signingKey = process.env.SIGNING_KEY_HEX
  ? await Secp256k1Keypair.import(process.env.SIGNING_KEY_HEX)
  : await Secp256k1Keypair.create()
await BskyAppView.create({ config, signingKey }).start()
console.log(`the AppView answers at http://127.0.0.1:${BSKY_PORT}`)
