import { expect, test } from 'vitest'
import { WxApi, type WxPlatform } from '../src/index'

/** A wx whose requests are answered by `answer`, in order of arrival. */
function setup(answer: (path: string, token: string, body: any) => { status?: number; body: unknown }, pay = 'ok') {
  const log: string[] = []
  let codes = 0
  const wx: WxPlatform = {
    login: ({ success }) => success({ code: `code${++codes}` }),
    request: ({ url, method, data, header, success }) => {
      const path = url.replace('https://hub.example', '')
      log.push(`${method} ${path}`)
      const { status = 200, body } = answer(path, (header?.Authorization ?? '').replace('Bearer ', ''), data)
      setTimeout(() => success({ statusCode: status, data: body }))
    },
    requestPayment: ({ success, fail, ...fields }) => {
      log.push(`pay ${JSON.stringify(fields)}`)
      if (pay === 'ok') success()
      else fail?.({ errMsg: pay })
    },
  }
  return { api: new WxApi({ base: 'https://hub.example', wx }), log }
}

const ok = (data: unknown) => ({ body: { code: 1, data, message: 'ok' } })
const no = (status: number, error: string) => ({ status, body: { code: 0, data: null, message: 'for a person', error } })

test('signs in by itself, once for calls at the same time', async () => {
  const { api, log } = setup((path, token, body) =>
    path === '/api/login' ? ok({ token: `t-${body.code}`, expiresIn: 7200, user: { id: 'u1' } }) : ok([token]))
  expect(await Promise.all([api.products(), api.orders()])).toEqual([['t-code1'], ['t-code1']])
  expect(await api.token()).toBe('t-code1')
  expect(await api.token(true)).toBe('t-code2')
  expect(api.user).toEqual({ id: 'u1' })
  expect(log).toEqual(['POST /api/login', 'GET /api/products', 'GET /api/orders', 'POST /api/login'])
})

test.each([[401, 'anything'], [200, 'token_expired']])('a dead token (%i %s) is replaced once', async (status, word) => {
  const { api, log } = setup((path, token, body) => {
    if (path === '/api/login') return ok({ token: body.code, expiresIn: 7200, user: { id: 'u1' } })
    return token === 'code1' ? no(status, word) : ok('fine')
  })
  expect(await api.call('GET', '/api/me')).toBe('fine')
  expect(log).toEqual(['POST /api/login', 'GET /api/me', 'POST /api/login', 'GET /api/me'])
})

test('a token about to expire is not used', async () => {
  const { api } = setup((_path, _token, body) => ok({ token: body.code, expiresIn: 30, user: { id: 'u1' } }))
  expect(await api.token()).toBe('code1')
  expect(await api.token()).toBe('code2')
})

test('refusals carry status, word and sentence', async () => {
  const { api } = setup((path, _token, body) => {
    if (path === '/api/login') return ok({ token: body.code, expiresIn: 7200, user: { id: 'u1' } })
    return path === '/api/orders/x%2Fy' ? no(404, 'not_found') : { status: 502, body: '<html>' }
  })
  await expect(api.order('x/y')).rejects.toMatchObject({ status: 404, error: 'not_found', message: 'for a person' })
  await expect(api.products()).rejects.toMatchObject({ status: 502, error: 'bad_answer' })
})

const five = { timeStamp: '1700000000', nonceStr: 'n', package: 'prepay_id=wx1', signType: 'RSA', paySign: 's' }

test('pay: the five fields reach the pay sheet, and the number comes back', async () => {
  const { api, log } = setup((path, _token, body) => {
    if (path === '/api/login') return ok({ token: body.code, expiresIn: 7200, user: { id: 'u1' } })
    expect(body).toEqual({ productId: 'tea', quantity: 1 })
    return ok({ outTradeNo: 'o1', ...five })
  })
  expect(await api.pay({ productId: 'tea' })).toEqual({ outTradeNo: 'o1' })
  expect(log[log.length - 1]).toBe(`pay ${JSON.stringify(five)}`)
})

test('pay: a person who cancels', async () => {
  const { api } = setup((path, _token, body) =>
    path === '/api/login' ? ok({ token: body.code, expiresIn: 7200, user: { id: 'u1' } }) : ok({ outTradeNo: 'o1', ...five }),
  'requestPayment:fail cancel')
  await expect(api.pay({ outTradeNo: 'o1' })).rejects.toMatchObject({ error: 'wx', message: 'requestPayment:fail cancel' })
})
