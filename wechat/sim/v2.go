package sim

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// signV2 is the signature of Pay v2 over every field that is not empty, but sign itself: sorted by
// name, k=v joined by &, then the key; MD5 or HMAC-SHA256 in upper hex. Unknown fields count.
// Source: WeChat Pay v2, page 4_3.
func signV2(signType, key string, fields map[string]string) string {
	return digestV2(signType, key, textV2(fields, key))
}

// textV2 is what a signature of Pay v2 is made over.
func textV2(fields map[string]string, key string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if value := fields[name]; value != "" && name != "sign" {
			text.WriteString(name + "=" + value + "&")
		}
	}
	return text.String() + "key=" + key
}

func digestV2(signType, key, text string) string {
	if signType == signHMAC {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(text))
		return strings.ToUpper(hex.EncodeToString(mac.Sum(nil)))
	}
	sum := md5.Sum([]byte(text))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// sealRefundV2 is req_info of a v2 refund notify: AES-256-ECB with PKCS#7, the key is the lower hex
// of the API key's MD5; in base64.
func sealRefundV2(key string, plain []byte) string {
	padded := pad(plain, aes.BlockSize)
	block := refundCipher(key)
	for i := 0; i < len(padded); i += aes.BlockSize {
		block.Encrypt(padded[i:], padded[i:])
	}
	return base64.StdEncoding.EncodeToString(padded)
}

func refundCipher(key string) cipher.Block {
	sum := md5.Sum([]byte(key))
	block, err := aes.NewCipher([]byte(hex.EncodeToString(sum[:])))
	if err != nil {
		panic("sim: " + err.Error()) // 32 bytes always fit
	}
	return block
}

// v2Fields are the fields of an answer or notify of Pay v2, in the order of writing.
type v2Fields [][2]string

func (f v2Fields) with(name, value string) v2Fields {
	return append(slices.Clip(f), [2]string{name, value})
}

func (f v2Fields) fen(name string, amount int64) v2Fields { return f.with(name, fmt.Sprint(amount)) }

func (f v2Fields) set() map[string]string {
	m := make(map[string]string, len(f))
	for _, field := range f {
		m[field[0]] = field[1]
	}
	return m
}

// signed adds the signature over all fields.
func (f v2Fields) signed(signType, key string) v2Fields {
	return f.with("sign", signV2(signType, key, f.set()))
}

// xml renders the fields below one element; amounts and counts stand bare, as the platform writes them.
func (f v2Fields) xml(root string) []byte {
	var b bytes.Buffer
	b.WriteString("<" + root + ">")
	for _, field := range f {
		value := cdata(field[1])
		if root == "xml" && (strings.HasSuffix(field[0], "_fee") || strings.HasSuffix(field[0], "_count")) {
			value = field[1]
		}
		b.WriteString("<" + field[0] + ">" + value + "</" + field[0] + ">")
	}
	b.WriteString("</" + root + ">")
	return b.Bytes()
}

// v2Error is a refusal of Pay v2. Without a code it concerns the call itself: return_code FAIL, which
// carries no signature. With one it concerns the business: result_code FAIL, signed.
type v2Error struct {
	code    string
	message string

	evidence *Evidence // of a signature that did not match
}

func v2Fault(message string) *v2Error { return &v2Error{message: message} }

// v2Request is a request whose signature is good.
type v2Request struct {
	fields   map[string]string
	signType string
	http     *http.Request
}

// v2 wraps a call of Pay v2: XML in and out, both signed alike. Errors are HTTP 200.
func (s *Sim) v2(h func(v2Request) (v2Fields, *v2Error)) http.Handler {
	return s.platformCall(func(w http.ResponseWriter, r *http.Request) outcome {
		w.Header().Set("Content-Type", "text/plain")
		req, e := s.readV2(r)
		var fields v2Fields
		if e == nil {
			e = faultOf(r).refusalV2()
		}
		if e == nil {
			fields, e = h(req)
		}
		if e != nil && e.code == "" {
			_, _ = w.Write(v2Fields{{"return_code", "FAIL"}, {"return_msg", e.message}}.xml("xml"))
			return outcome{code: "FAIL", note: e.message, evidence: e.evidence}
		}
		got := outcome{}
		answer := v2Fields{{"return_code", "SUCCESS"}, {"return_msg", "OK"}, {"appid", s.opts.AppID},
			{"mch_id", s.opts.MchID}, {"nonce_str", random(letters, 16)}, {"result_code", "SUCCESS"}}
		if e != nil {
			answer[len(answer)-1][1] = "FAIL"
			fields, got = v2Fields{{"err_code", e.code}, {"err_code_des", e.message}}, outcome{code: e.code, note: e.message}
		}
		answer = append(answer, fields...).signed(req.signType, s.opts.V2Key)
		if f := faultOf(r); f != nil {
			switch f.Sign {
			case "wrong", "probe":
				answer[len(answer)-1][1] = random(upperHex, 32)
			case "none":
				answer = answer[:len(answer)-1]
			}
		}
		_, _ = w.Write(answer.xml("xml"))
		return got
	})
}

// readV2 checks form, merchant, signature and app of a request.
func (s *Sim) readV2(r *http.Request) (v2Request, *v2Error) {
	if r.Method != http.MethodPost {
		return v2Request{}, v2Fault("请使用post方法")
	}
	body, err := readBody(r.Body, maxBody)
	switch {
	case err != nil:
		return v2Request{}, v2Fault("XML格式错误")
	case len(bytes.TrimSpace(body)) == 0:
		return v2Request{}, v2Fault("post数据为空")
	case !utf8.Valid(body):
		return v2Request{}, v2Fault("编码格式错误，请使用UTF-8")
	}
	f, err := parseV2(body)
	if err != nil {
		return v2Request{}, v2Fault("XML格式错误")
	}
	req := v2Request{fields: f, signType: f["sign_type"], http: r}
	if req.signType == "" {
		req.signType = signMD5
	}
	for _, name := range []string{"appid", "mch_id", "nonce_str", "sign"} {
		if f[name] == "" {
			return v2Request{}, v2Fault("缺少参数" + name)
		}
	}
	switch {
	case s.opts.V2Key == "":
		return v2Request{}, v2Fault("商户未设置API密钥")
	case f["mch_id"] != s.opts.MchID:
		return v2Request{}, v2Fault("商户号mch_id不存在")
	case req.signType != signMD5 && req.signType != signHMAC:
		return v2Request{}, v2Fault("签名类型sign_type有误")
	case len(f["nonce_str"]) > 32:
		return v2Request{}, v2Fault("nonce_str参数长度有误")
	case !same(f["sign"], signV2(req.signType, s.opts.V2Key, f)):
		evidence := evidenceV2("v2", req.signType, s.opts.V2Key, f, f["sign"], body)
		evidence.Refused = "sign"
		return v2Request{}, &v2Error{message: "签名错误，请检查后再试", evidence: &evidence}
	case f["appid"] != s.opts.AppID:
		return v2Request{}, v2Fault("appid和mch_id不匹配")
	}
	return req, nil
}

var errV2Form = errors.New("not one flat <xml> element")

// parseV2 reads a flat XML document. Every field occurs once; nesting and DOCTYPE are refused.
func parseV2(body []byte) (map[string]string, error) {
	f, err := flattenXML(bytes.TrimSpace(body))
	if err != nil {
		return nil, errV2Form
	}
	for name := range f {
		if strings.Contains(name, ".") {
			return nil, errV2Form
		}
	}
	return f, nil
}

var fenShape = regexp.MustCompile(`^[1-9][0-9]{0,9}$`)

// fen reads an amount of at least 1 fen, written as a plain integer; 0 when it is anything else.
func (r v2Request) fen(name string) (amount int64) {
	if fenShape.MatchString(r.fields[name]) {
		_, _ = fmt.Sscan(r.fields[name], &amount) // cannot fail
	}
	return amount
}

// need returns the fault of the first field that is missing, nil when all are there.
func (r v2Request) need(names ...string) *v2Error {
	for _, name := range names {
		if r.fields[name] == "" {
			return v2Fault("缺少参数" + name)
		}
	}
	return nil
}

// v2Code tells what Pay v2 calls a refusal of API v3.
func (e *payError) v2() *v2Error {
	code := e.code
	switch code {
	case "ORDER_CLOSED":
		code = "ORDERCLOSED"
	case "ORDER_NOT_EXIST", "RESOURCE_NOT_EXISTS":
		code = "ORDERNOTEXIST"
	}
	return &v2Error{code: code, message: e.message}
}
