package wechat

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// withToken gives tokens and leaves the rest to h, with the request's body read.
func withToken(h func(w http.ResponseWriter, r *http.Request, body string)) http.HandlerFunc {
	var tokens atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cgi-bin/stable_token" {
			fmt.Fprintf(w, `{"access_token":"canary-token-%d","expires_in":7200}`, tokens.Add(1))
			return
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body)) // to be read again
		h(w, r, string(body))
	}
}

const callsNow = 1768444496

// A call is one API that wants a token.
type call struct {
	op, method, path string
	query            string // beside the token
	body             string // that we send
	good             string // an answer of success
	call             func(ctx context.Context, c *Client) (string, error)
	want             string // that the call makes of good
	void             bool   // success is all that WeChat has to say
	own              map[int]error
}

func done(err error) (string, error) {
	if err != nil {
		return "", err
	}
	return "done", nil
}

const (
	okAnswer       = `{"errcode":0,"errmsg":"ok"}`
	testSessionKey = "Y2FuYXJ5LXNlc3Npb24tIQ==" // canary-session-!
	testUpload     = "canary-form"
)

var testProof = func() string {
	h := hmac.New(sha256.New, []byte(testSessionKey))
	return hex.EncodeToString(h.Sum(nil))
}()

var testShipment = Shipment{
	TransactionID: "4200002026202601151234567890", OpenID: "canary-openid", Logistics: ShipExpress, Split: true, Complete: true,
	Parcels: []Parcel{
		{Item: "茶\n壶", TrackingNo: "SF1", Company: "SF", ReceiverContact: "138****0000"},
		{Item: strings.Repeat("好", 121), TrackingNo: "Z1", Company: "ZTO"},
	},
	At: time.Unix(callsNow, 0),
}

var calls = []call{
	{
		op: "getuserphonenumber", method: "POST", path: "/wxa/business/getuserphonenumber",
		body: `{"code":"canary-code"}`,
		good: `{"errcode":0,"errmsg":"ok","phone_info":{"phoneNumber":"+8613800000000","purePhoneNumber":"13800000000","countryCode":86,"watermark":{"timestamp":1768444480,"appid":"wx8888888888888888"}}}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			u, err := c.PhoneNumber(ctx, "canary-code")
			return strings.Trim(u.PhoneNumber+" "+u.PurePhoneNumber+" "+u.CountryCode, " "), err
		},
		want: "+8613800000000 13800000000 86",
		own:  map[int]error{40029: ErrCodeInvalid, 40013: ErrCodeInvalid},
	},
	{
		op: "msg_sec_check", method: "POST", path: "/wxa/msg_sec_check",
		body: `{"openid":"canary-openid","scene":2,"version":2,"content":"canary <b>你好"}`,
		good: `{"errcode":0,"errmsg":"ok","result":{"suggest":"review","label":20001},"detail":[{"strategy":"content_model","errcode":0}],"trace_id":"1"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			v, err := c.CheckText(ctx, "canary-openid", SceneComment, "canary <b>你好")
			return string(v), err
		},
		want: "review",
		own:  map[int]error{61010: ErrOpenID, 43104: ErrOpenID, 44991: ErrTooOften, 40129: ErrRequest},
	},
	{
		op: "user/info", method: "GET", path: "/cgi-bin/user/info", query: "&lang=zh_CN&openid=canary-openid",
		good: `{"subscribe":1,"openid":"canary-openid","nickname":"","language":"zh_CN","subscribe_time":1382694957,"unionid":"canary-union","remark":"老顾客","subscribe_scene":"ADD_SCENE_QR_CODE","qr_scene":98765}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			f, err := c.Follower(ctx, "canary-openid")
			if f == (Follower{}) {
				return "", err
			}
			return fmt.Sprintln(f.OpenID, f.UnionID, f.Nickname, f.Language, f.Remark, f.Subscribed, f.SubscribedAt.Unix(), f.Scene), err
		},
		want: "canary-openid canary-union  zh_CN 老顾客 true 1382694957 ADD_SCENE_QR_CODE\n",
	},
	{
		op: "user/get", method: "GET", path: "/cgi-bin/user/get", query: "&next_openid=canary-openid",
		good: `{"total":3,"count":2,"data":{"openid":["o1","o2"]},"next_openid":"o2"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			page, err := c.Followers(ctx, "canary-openid")
			return strings.Join(page, " "), err
		},
		want: "o1 o2", void: true, // an empty page is the end
	},
	{
		op: "user/info/batchget", method: "POST", path: "/cgi-bin/user/info/batchget",
		body: `{"user_list":[{"openid":"canary-openid","lang":"zh_CN"},{"openid":"o2","lang":"zh_CN"}]}`,
		good: `{"user_info_list":[{"subscribe":1,"openid":"canary-openid","unionid":"u1"},{"subscribe":0,"openid":"o2"}]}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			all, err := c.FollowerInfos(ctx, []string{"canary-openid", "o2"})
			said := ""
			for _, f := range all {
				said += fmt.Sprint(f.OpenID, f.UnionID, f.Subscribed, " ")
			}
			return said, err
		},
		want: "canary-openidu1true o2false ",
	},
	{
		op: "clear_quota", method: "POST", path: "/cgi-bin/clear_quota", body: `{"appid":"wx8888888888888888"}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) { return done(c.ClearQuota(ctx)) },
		own:  map[int]error{48006: ErrRequest},
	},
	{
		op: "getwxacodeunlimit", method: "POST", path: "/wxa/getwxacodeunlimit",
		body: `{"scene":"a=1&b=2","page":"pages/shop/index","check_path":false,"env_version":"trial","width":280}`,
		good: testPicture,
		call: func(ctx context.Context, c *Client) (string, error) {
			b, kind, err := c.QRCode(ctx, QRCode{Scene: "a=1&b=2", Page: "pages/shop/index", Width: 280, EnvVersion: "trial"})
			return kind + string(b), err
		},
		want: "image/png" + testPicture,
		own:  map[int]error{40129: ErrRequest, 40169: ErrRequest, 41030: ErrRequest, 40097: ErrRequest, 45029: ErrRequest, 85096: ErrRequest},
	},
	{
		op: "getwxacode", method: "POST", path: "/wxa/getwxacode",
		body: `{"path":"pages/shop/index?id=1&x=<","env_version":"release","width":430,"line_color":{"r":1,"g":2,"b":255},"is_hyaline":true}`,
		good: testPicture,
		call: func(ctx context.Context, c *Client) (string, error) {
			b, kind, err := c.PathCode(ctx, PathCode{Path: "pages/shop/index?id=1&x=<", Width: 430, EnvVersion: "release", Color: &RGB{1, 2, 255}, Transparent: true})
			return kind + string(b), err
		},
		want: "image/png" + testPicture,
		own:  map[int]error{40159: ErrRequest, 45029: ErrRequest},
	},
	{
		op: "createwxaqrcode", method: "POST", path: "/cgi-bin/wxaapp/createwxaqrcode",
		body: `{"path":"pages/shop/index?id=1","width":280}`,
		good: testPicture,
		call: func(ctx context.Context, c *Client) (string, error) {
			b, kind, err := c.PathCode(ctx, PathCode{Path: "pages/shop/index?id=1", Width: 280, Square: true})
			return kind + string(b), err
		},
		want: "image/png" + testPicture,
		own:  map[int]error{40159: ErrRequest, 45029: ErrRequest},
	},
	{
		op: "generate_urllink", method: "POST", path: "/wxa/generate_urllink",
		body: `{"path":"pages/shop/index","query":"a=1&b=<2>","env_version":"release","expire_type":1,"expire_interval":30}`,
		good: `{"errcode":0,"errmsg":"ok","url_link":"https://wxaurl.cn/BQZRrcFCPvg"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.URLLink(ctx, Link{Path: "pages/shop/index", Query: "a=1&b=<2>", EnvVersion: "release"})
		},
		want: "https://wxaurl.cn/BQZRrcFCPvg",
		own:  map[int]error{40002: ErrRequest, 40165: ErrRequest, 40212: ErrRequest, 85079: ErrRequest, 85401: ErrRequest, 44990: ErrTooOften},
	},
	{
		op: "generatescheme", method: "POST", path: "/wxa/generatescheme",
		body: `{"jump_wxa":{"path":"/pages/shop/index","query":"a=1"},"is_expire":true,"expire_type":0,"expire_time":1768448096}`,
		good: `{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=XTSkBZlzqmn"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.URLScheme(ctx, Link{Path: "/pages/shop/index", Query: "a=1", ExpiresAt: time.Unix(callsNow+3600, 0)})
		},
		want: "weixin://dl/business/?t=XTSkBZlzqmn",
		own:  map[int]error{40002: ErrRequest, 40165: ErrRequest, 85079: ErrRequest, 44990: ErrTooOften},
	},
	{
		op: "checksession", method: "GET", path: "/wxa/checksession",
		query: "&openid=canary-openid&sig_method=hmac_sha256&signature=" + testProof,
		good:  okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) {
			return done(c.CheckSession(ctx, "canary-openid", testSessionKey))
		},
		own: map[int]error{87009: ErrSessionKey, 87007: ErrSessionKey, 87008: ErrRequest, 40097: ErrRequest},
	},
	{
		op: "resetusersessionkey", method: "GET", path: "/wxa/resetusersessionkey",
		query: "&openid=canary-openid&sig_method=hmac_sha256&signature=" + testProof,
		good:  `{"errcode":0,"errmsg":"ok","openid":"canary-openid","session_key":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.ResetSession(ctx, "canary-openid", testSessionKey)
		},
		want: "AAAAAAAAAAAAAAAAAAAAAA==",
		own:  map[int]error{87009: ErrSessionKey, 87007: ErrSessionKey, 40097: ErrRequest},
	},
	{
		op: "getpaidunionid", method: "GET", path: "/wxa/getpaidunionid", query: "&openid=canary-openid&transaction_id=4200002026",
		good: `{"unionid":"canary-union","errcode":0,"errmsg":"ok"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.PaidUnionID(ctx, "canary-openid", "4200002026")
		},
		want: "canary-union",
		own:  map[int]error{89300: ErrNoOrder},
	},
	{
		op: "custom/send", method: "POST", path: "/cgi-bin/message/custom/send",
		body: `{"touser":"canary-openid","msgtype":"image","image":{"media_id":"m1"},"customservice":{"kf_account":"kf1@shop"},"aimsgcontext":{"is_ai_msg":1}}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) {
			return done(c.SendCustom(ctx, "canary-openid", CustomMessage{Image: &CustomImage{"m1"}, Account: "kf1@shop", FromAI: true}))
		},
		own: map[int]error{45015: ErrWindow, 45047: ErrWindow, 45002: ErrRequest, 44004: ErrRequest, 43004: ErrRecipient, 70000: ErrRecipient, 40007: ErrMediaID},
	},
	{
		op: "custom/typing", method: "POST", path: "/cgi-bin/message/custom/typing",
		body: `{"touser":"canary-openid","command":"Typing"}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) {
			return done(c.Typing(ctx, "canary-openid", true))
		},
		own: map[int]error{45072: ErrRequest, 45080: ErrWindow, 45047: ErrWindow},
	},
	{
		op: "media/upload", method: "POST", path: "/cgi-bin/media/upload", query: "&type=image", body: testUpload,
		good: `{"type":"image","media_id":"m-1","created_at":1768444496}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.UploadMedia(ctx, Medium{Kind: "image", Content: []byte(testPicture)})
		},
		want: "m-1",
		own:  map[int]error{40004: ErrRequest, 40005: ErrRequest, 40006: ErrRequest, 41005: ErrRequest},
	},
	{
		op: "subscribe/send", method: "POST", path: "/cgi-bin/message/subscribe/send",
		body: `{"template_id":"T-1","page":"pages/order?id=1","touser":"canary-openid","data":{"amount3":{"value":"¥0.07"},"thing1":{"value":"你好 <b>"}},"miniprogram_state":"formal","lang":"zh_CN"}`,
		good: `{"errcode":0,"errmsg":"ok","msgid":1864323726461255680}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.SendSubscribe(ctx, "canary-openid", SubscribeMessage{TemplateID: "T-1", Page: "pages/order?id=1",
				Data: map[string]string{"thing1": " 你好\n<b>", "amount3": FieldAmount(7)}})
		},
		want: "1864323726461255680",
		void: true, // a msgid is welcome, not promised
		own: map[int]error{43101: ErrNotSubscribed, 43107: ErrConfig, 43108: ErrTooOften, 47003: ErrRequest, 40037: ErrRequest,
			45168: ErrContent, 41030: ErrRequest},
	},
	{
		op: "media_check_async", method: "POST", path: "/wxa/media_check_async",
		body: `{"media_url":"https://shop.example/canary.png?x=1","media_type":2,"version":2,"scene":1,"openid":"canary-openid"}`,
		good: `{"errcode":0,"errmsg":"ok","trace_id":"967e945cd8a3e458f3c74dcb886068e9"}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			return c.CheckMedia(ctx, MediaCheck{OpenID: "canary-openid", Scene: SceneProfile, URL: "https://shop.example/canary.png?x=1"})
		},
		want: "967e945cd8a3e458f3c74dcb886068e9",
		own:  map[int]error{61010: ErrOpenID, 43104: ErrOpenID, 44991: ErrTooOften, 40129: ErrRequest},
	},
	{
		op: "is_trade_managed", method: "POST", path: "/wxa/sec/order/is_trade_managed", body: `{"appid":"wx8888888888888888"}`,
		good: `{"errcode":0,"errmsg":"ok","is_trade_managed":true}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			managed, err := c.TradeManaged(ctx)
			if !managed {
				return "", err
			}
			return "managed", err
		},
		want: "managed",
		own:  map[int]error{40097: ErrRequest},
	},
	{
		op: "is_trade_management_confirmation_completed", method: "POST", path: "/wxa/sec/order/is_trade_management_confirmation_completed",
		body: `{"appid":"wx8888888888888888"}`,
		good: `{"errcode":0,"errmsg":"ok","completed":true}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			completed, err := c.TradeConfirmed(ctx)
			if !completed {
				return "", err
			}
			return "completed", err
		},
		want: "completed",
	},
	{
		op: "upload_shipping_info", method: "POST", path: "/wxa/sec/order/upload_shipping_info",
		body: `{"order_key":{"order_number_type":2,"transaction_id":"4200002026202601151234567890"},"logistics_type":1,"delivery_mode":2,"is_all_delivered":true,` +
			`"shipping_list":[{"tracking_no":"SF1","express_company":"SF","item_desc":"茶 壶","contact":{"receiver_contact":"138****0000"}},` +
			`{"tracking_no":"Z1","express_company":"ZTO","item_desc":"` + strings.Repeat("好", 119) + `…"}],"upload_time":"2026-01-15T10:34:56.000+08:00","payer":{"openid":"canary-openid"}}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) { return done(c.UploadShipping(ctx, testShipment)) },
		own: map[int]error{10060001: ErrNotYet, 10060002: ErrRequest, 10060003: ErrRequest, 10060004: ErrRequest, 10060031: ErrOpenID,
			47001: ErrRequest, 268485216: ErrRequest},
	},
	{
		op: "get_order", method: "POST", path: "/wxa/sec/order/get_order", body: `{"transaction_id":"4200002026"}`,
		good: `{"errcode":0,"errmsg":"ok","order":{"transaction_id":"4200002026","merchant_id":"1","merchant_trade_no":"T1","openid":"canary-openid","order_state":2,"paid_amount":100,"new":{}}}`,
		call: func(ctx context.Context, c *Client) (string, error) {
			o, err := c.ShippedOrder(ctx, "4200002026")
			if o == (ShippedOrder{}) {
				return "", err
			}
			return fmt.Sprintln(o.TransactionID, o.OutTradeNo, o.OpenID, o.State, o.PaidFen), err
		},
		want: "4200002026 T1 canary-openid 2 100\n",
		own:  map[int]error{10060001: ErrNotYet},
	},
	{
		op: "notify_confirm_receive", method: "POST", path: "/wxa/sec/order/notify_confirm_receive",
		body: `{"transaction_id":"4200002026","received_time":1768444496}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) {
			return done(c.RemindReceipt(ctx, "4200002026", time.Unix(callsNow, 0)))
		},
		own: map[int]error{10060002: ErrRequest},
	},
	{
		op: "opspecialorder", method: "POST", path: "/wxa/sec/order/opspecialorder",
		body: `{"order_id":"4200002026","type":1,"delay_to":1768444496}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) {
			return done(c.SpecialOrder(ctx, "4200002026", SpecialPresale, time.Unix(callsNow, 0)))
		},
	},
	{
		op: "set_msg_jump_path", method: "POST", path: "/wxa/sec/order/set_msg_jump_path", body: `{"path":"pages/order/index"}`,
		good: okAnswer, void: true, want: "done",
		call: func(ctx context.Context, c *Client) (string, error) {
			return done(c.SetShippingPath(ctx, "pages/order/index"))
		},
	},
}

// sentFile is what an upload has in its form, in the shape of calls' body.
func sentFile(r *http.Request, body string) string {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return body
	}
	form := multipart.NewReader(strings.NewReader(body), params["boundary"])
	part, err := form.NextPart()
	if err != nil {
		return err.Error()
	}
	file, _ := io.ReadAll(part)
	_, end := form.NextPart()
	if part.FormName() == "media" && part.FileName() == "picture.png" && part.Header.Get("Content-Type") == "image/png" && string(file) == testPicture && end == io.EOF {
		return testUpload
	}
	return fmt.Sprint(part.Header, len(file), end)
}

var testPicture = func() string {
	m := image.NewGray(image.Rect(0, 0, 4, 4))
	m.SetGray(1, 1, color.Gray{255})
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		panic(err)
	}
	return b.String()
}()

// answerGood says c's success with the Content-Type that fits.
func (c call) answerGood(w http.ResponseWriter) {
	if strings.HasPrefix(c.good, "\x89") {
		w.Header().Set("Content-Type", "image/png")
	}
	_, _ = io.WriteString(w, c.good)
}

func TestCalls_success(t *testing.T) {
	for _, c := range calls {
		t.Run(c.op, func(t *testing.T) {
			client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
				if c.body == testUpload {
					body = sentFile(r, body)
				}
				if r.Method != c.method || r.URL.Path != c.path || r.URL.RawQuery != "access_token=canary-token-1"+c.query || body != c.body {
					t.Errorf("%s %s %s", r.Method, r.URL, body)
				}
				c.answerGood(w)
			}), func(o *Options) { o.Now = at(callsNow) })
			got, err := c.call(t.Context(), client)
			if err != nil || got != c.want {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

// A token that WeChat refuses is renewed once, whatever the call.
func TestCalls_tokenRefused(t *testing.T) {
	for _, c := range calls {
		t.Run(c.op, func(t *testing.T) {
			client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) {
				if r.URL.Query().Get("access_token") == "canary-token-1" {
					_, _ = io.WriteString(w, `{"errcode":42001,"errmsg":"access_token expired"}`)
					return
				}
				c.answerGood(w)
			}), func(o *Options) { o.Now = at(callsNow) })
			if got, err := c.call(t.Context(), client); err != nil || got != c.want {
				t.Errorf("%q %v", got, err)
			}
		})
	}
}

func TestCalls_refused(t *testing.T) {
	type bad struct {
		name   string
		answer http.HandlerFunc
		kind   error
	}
	code := func(n int, kind error) bad {
		return bad{fmt.Sprint(n), say(200, fmt.Sprintf(`{"errcode":%d,"errmsg":"no, rid: 1-2"}`, n)), kind}
	}
	all := []bad{
		code(-1, ErrBusy), code(45009, ErrTooOften), code(45011, ErrTooOften), code(40001, ErrToken), code(40014, ErrToken),
		code(48001, ErrConfig), code(40164, ErrConfig), code(40013, ErrConfig), code(40003, ErrOpenID), code(99999, ErrRequest),
		{"500", say(500, `<html>`), ErrBusy},
		{"429", say(429, ``), ErrTooOften},
		{"404", say(404, `not here`), ErrNonsense},
		{"html", say(200, `<!DOCTYPE html><html>`), ErrNonsense},
		{"empty", say(200, ``), ErrNonsense},
		{"null", say(200, `null`), ErrNonsense},
		{"list", say(200, `[]`), ErrNonsense},
		{"broken", say(200, `{"errcode":0`), ErrNonsense},
		{"nothing in it", say(200, `{"errcode":0,"errmsg":"ok"}`), ErrNonsense},
		{"other types", say(200, `{"phone_info":[],"result":"x","openid":1,"subscribe":"y","unionid":{},"session_key":7,"media_id":[],"trace_id":0,`+
			`"is_trade_managed":"true","completed":1,"order":[],"url_link":{},"openlink":true}`), ErrNonsense},
		{"huge", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), maxAnswer+10)) }, ErrNonsense},
		{"redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, ErrNonsense},
		{"cut off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{`)
		}, ErrBusy},
		{"slow", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ErrBusy},
		{"repeats what it got", func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			b, _ := encode(map[string]any{"errcode": 47001, "errmsg": "bad " + string(body) + " in " + r.URL.String()})
			_, _ = w.Write(b)
		}, ErrRequest},
	}
	for _, c := range calls {
		cases := all
		for n, kind := range c.own {
			cases = append(cases, code(n, kind))
		}
		for _, b := range cases {
			if c.void && (b.name == "nothing in it" || b.name == "other types") {
				continue
			}
			t.Run(c.op+"/"+b.name, func(t *testing.T) {
				client := newTestClient(t, withToken(func(w http.ResponseWriter, r *http.Request, body string) { b.answer(w, r) }),
					func(o *Options) { o.Now = at(callsNow) })
				if b.name == "slow" {
					if _, err := client.AccessToken(t.Context()); err != nil {
						t.Fatal(err)
					}
					client.timeout = 30 * time.Millisecond
				}
				want := b.kind
				if kind, ok := c.own[40013]; ok && b.name == "40013" {
					want = kind
				}
				got, err := c.call(t.Context(), client)
				var e *Error
				if !errors.Is(err, want) || !errors.As(err, &e) || e.Op != c.op || got != "" {
					t.Errorf("%q %v", got, err)
				}
				noSecrets(t, err)
			})
		}
	}
}
