package sim

import (
	"cmp"
	"net/http"
)

func (s *Sim) mux() *http.ServeMux {
	m := http.NewServeMux()
	m.Handle("/sns/jscode2session", s.platformCall(s.jscode2session))
	m.Handle("/cgi-bin/stable_token", s.platformCall(s.stableToken))
	m.Handle("/cgi-bin/token", s.platformCall(s.classicToken))
	m.Handle("/cgi-bin/message/custom/send", s.withToken("POST", nil, s.customSend))
	m.Handle("/cgi-bin/message/custom/typing", s.withToken("POST", nil, s.customTyping))
	m.Handle("/cgi-bin/media/upload", s.withTokenAndFile("POST", nil, maxUpload, s.uploadMedia))
	m.Handle("/cgi-bin/media/get", s.withToken("GET", nil, s.getMedia))
	m.Handle("/wxa/checksession", s.withToken("GET", s.mini, s.checkSession))
	m.Handle("/wxa/resetusersessionkey", s.withToken("GET", s.mini, s.resetSession))
	m.Handle("/wxa/getpaidunionid", s.withToken("GET", s.mini, s.paidUnionid))
	m.Handle("/cgi-bin/user/info", s.withToken("GET", cmp.Or(s.mp, nobody), s.followerInfo))
	m.Handle("/wxa/business/getuserphonenumber", s.withToken("POST", s.mini, s.phoneNumber))
	m.Handle("/wxa/getwxacodeunlimit", s.withToken("POST", s.mini, s.drawCode))
	m.Handle("/wxa/getwxacode", s.withToken("POST", s.mini, s.drawLimited(maxCodePath)))
	m.Handle("/cgi-bin/wxaapp/createwxaqrcode", s.withToken("POST", s.mini, s.drawLimited(maxSquarePath)))
	m.Handle("/wxa/generate_urllink", s.withToken("POST", s.mini, s.urlLink))
	m.Handle("/wxa/generatescheme", s.withToken("POST", s.mini, s.urlScheme))
	m.Handle("/cgi-bin/message/subscribe/send", s.withToken("POST", s.mini, s.sendSubscribe))
	m.Handle("/cgi-bin/message/template/send", s.withToken("POST", cmp.Or(s.mp, nobody), s.sendTemplate))
	m.Handle("/wxa/media_check_async", s.withToken("POST", s.mini, s.checkMedia))
	m.Handle("/wxa/msg_sec_check", s.withToken("POST", s.mini, s.checkText))
	m.Handle("/v3/pay/transactions/jsapi", s.v3(s.prepay))
	m.Handle("GET /v3/pay/transactions/out-trade-no/{no}", s.v3(s.queryOrder))
	m.Handle("GET /v3/pay/transactions/id/{id}", s.v3(s.queryOrder))
	m.Handle("POST /v3/pay/transactions/out-trade-no/{no}/close", s.v3(s.closeOrder))
	m.Handle("POST /v3/refund/domestic/refunds", s.v3(s.refundOrder))
	m.Handle("GET /v3/refund/domestic/refunds/{no}", s.v3(s.queryRefund))
	m.Handle("/pay/unifiedorder", s.v2(s.unifiedOrder))
	m.Handle("/pay/orderquery", s.v2(s.orderQuery))
	m.Handle("/pay/closeorder", s.v2(s.closeOrderV2))
	m.Handle("/secapi/pay/refund", s.v2(s.refundV2))
	m.Handle("/pay/refundquery", s.v2(s.refundQueryV2))
	m.Handle("/v3/", s.platformCall(func(w http.ResponseWriter, r *http.Request) outcome {
		return s.answerV3(w, &payError{status: 404, code: "RESOURCE_NOT_EXISTS", message: "请求的资源不存在"}, nil)
	}))
	m.Handle("/", s.platformCall(func(w http.ResponseWriter, r *http.Request) outcome {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		return s.answerAPI(w, apiErr(40066, "invalid url"), nil)
	}))

	m.Handle("POST /sim/login", s.control(s.login))
	m.Handle("POST /sim/phone", s.control(s.phone))
	m.Handle("POST /sim/subscribe", s.control(s.subscribe))
	m.Handle("POST /sim/pay", s.control(s.requestPayment))
	m.Handle("POST /sim/message", s.control(s.message))
	m.Handle("GET /sim/chat", s.control(s.chat))
	m.Handle("POST /sim/trigger", s.control(s.trigger))
	m.Handle("POST /sim/fault", s.control(s.setFault))
	m.Handle("DELETE /sim/fault", s.control(s.clearFaults))
	m.Handle("GET /sim/state", s.control(s.state))
	m.HandleFunc("GET /sim/avatar/{hue}/{name}", avatar)
	m.HandleFunc("OPTIONS /sim/", func(w http.ResponseWriter, r *http.Request) {
		allowAnyOrigin(w)
		w.WriteHeader(http.StatusNoContent)
	})
	m.Handle("/sim/", s.control(func(*http.Request) (any, error) {
		return nil, &controlError{404, "not_found", "no such call; GET / shows what there is"}
	}))
	m.HandleFunc("GET /{$}", page)
	return m
}
