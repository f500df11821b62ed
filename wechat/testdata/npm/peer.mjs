// Other people's programs, asked over standard input: one JSON object a line in, one a line out.
// Nothing of wxhub is in here, so that both sides cannot make the same mistake.
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

const require = createRequire(import.meta.url)
const { Wechatpay, Rsa, Aes, Hash, Formatter, Transformer } = require('wechatpay-axios-plugin')
const WXBizMsgCrypt = require('wechat-crypto')
const wecom = require('@wecom/crypto')

const seals = {
  'wechat-crypto': {
    seal: ({ token, key, appid, text }) => new WXBizMsgCrypt(token, key, appid).encrypt(text),
    open: ({ token, key, appid, encrypt }) => new WXBizMsgCrypt(token, key, appid).decrypt(encrypt),
    sign: ({ token, key, appid, timestamp, nonce, encrypt }) => new WXBizMsgCrypt(token, key, appid).getSignature(timestamp, nonce, encrypt),
  },
  '@wecom/crypto': {
    seal: ({ key, appid, text }) => wecom.encrypt(key, text, appid),
    open: ({ key, encrypt }) => wecom.decrypt(key, encrypt),
    sign: ({ token, timestamp, nonce, encrypt }) => wecom.getSignature(token, timestamp, nonce, encrypt),
  },
}

const commands = {
  'push.seal': (q) => {
    const encrypt = seals[q.lib].seal(q)
    return { encrypt, signature: seals[q.lib].sign({ ...q, encrypt }) }
  },
  'push.open': (q) => {
    const { message, id } = seals[q.lib].open(q)
    return { message, id, signature: seals[q.lib].sign(q) }
  },
  'v2.write': ({ fields, key, type }) => Transformer.toXml({ ...fields, ...(key ? { sign: Hash.sign(type, fields, key) } : {}) }),
  'v2.read': ({ xml, key, type }) => {
    const fields = Transformer.toObject(xml)
    return { fields, good: key ? Hash.sign(type, fields, key) === fields.sign : false }
  },
  'v2.sign': ({ fields, key, type }) => Hash.sign(type, fields, key),
  'v2.refundInfo': ({ xml, key }) => Aes.AesEcb.encrypt(xml, Hash.md5(key)),
  'v3.sign': ({ timestamp, nonce, body, key }) => Rsa.sign(Formatter.joinedByLineFeed(timestamp, nonce, body), Rsa.from(key, Rsa.KEY_TYPE_PRIVATE)),
  'v3.seal': ({ text, key, nonce, aad }) => Aes.AesGcm.encrypt(text, key, nonce, aad),
  'v3.verify': ({ message, signature, key }) => Rsa.verify(message, signature, Rsa.from(key, Rsa.KEY_TYPE_PUBLIC)),
  'v3.request': ({ method, uri, timestamp, nonce, body }) => Formatter.request(method, uri, timestamp, nonce, body),
  'v3.client': ({ appid, timestamp, nonce, pack }) => Formatter.joinedByLineFeed(appid, timestamp, nonce, pack),
  // A whole merchant: it signs, calls, and verifies the answer.
  'merchant': async ({ config, path, method, data, params }) => {
    try {
      const answer = await new Wechatpay(config).client.request(path, method, data, { params, timeout: 10000 })
      return { status: answer.status, data: answer.data }
    } catch (err) {
      return { failed: String(err.code || err.message), why: String(err.message), status: err.response?.status ?? 0, data: err.response?.data ?? null }
    }
  },
}

createInterface({ input: process.stdin }).on('line', async (line) => {
  let answer
  try {
    const { command, ...query } = JSON.parse(line)
    answer = { result: await commands[command](query) }
  } catch (err) {
    answer = { error: String(err?.message ?? err) }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
})
