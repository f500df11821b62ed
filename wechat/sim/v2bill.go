package sim

import (
	"net/http"
	"strings"
	"time"
)

// v2NoBill is how Pay v2 says that there is no bill.
var v2NoBill = v2Fields{{"return_code", "FAIL"}, {"return_msg", "No Bill Exist"}, {"error_code", "20002"}}

// billV2 is POST /pay/downloadbill and /pay/downloadfundflow: the bill itself as text, or a refusal in XML
// without a signature.
func (s *Sim) billV2(what string) http.Handler {
	return s.platformCall(func(w http.ResponseWriter, r *http.Request) outcome {
		w.Header().Set("Content-Type", "text/plain")
		refuse := func(e *v2Error) outcome {
			_, _ = w.Write(v2Fields{{"return_code", "FAIL"}, {"return_msg", e.message}}.xml("xml"))
			return outcome{code: "FAIL", note: e.message, evidence: e.evidence}
		}
		req, e := s.readV2(r)
		if e == nil && what == billFundFlow {
			e = s.holdsCertificate(r)
		}
		if e != nil {
			return refuse(e)
		}
		a, e := readBillV2(req, what)
		if e != nil {
			return refuse(e)
		}
		if f := faultOf(r); f != nil {
			a.spoil = f.Bill
		}
		var text []byte
		if !s.badDay(a.day) {
			text = s.writeBill(a)
		}
		if text == nil {
			_, _ = w.Write(v2NoBill.xml("xml"))
			return outcome{code: "20002", note: "No Bill Exist"}
		}
		if a.gzip {
			w.Header().Set("Content-Type", "application/x-gzip")
			text = packed(text)
		}
		_, _ = w.Write(text)
		return outcome{}
	})
}

func readBillV2(r v2Request, what string) (billAsk, *v2Error) {
	a := billAsk{what: what, kind: "ALL"}
	if e := r.need("bill_date"); e != nil {
		return a, e
	}
	var err error
	if a.day, err = time.ParseInLocation("20060102", r.fields["bill_date"], beijing(time.Time{}).Location()); err != nil {
		return a, v2Fault("invalid bill_date")
	}
	switch tar := r.fields["tar_type"]; {
	case tar == "GZIP":
		a.gzip = true
	case tar != "":
		return a, v2Fault("invalid tar_type")
	}
	if what == billFundFlow {
		switch {
		case r.signType != signHMAC:
			return a, v2Fault("sign_type must be HMAC-SHA256")
		case !strings.Contains("|Basic|Operation|Fees|", "|"+r.fields["account_type"]+"|"):
			return a, v2Fault("invalid account_type")
		}
		return a, nil
	}
	switch kind := r.fields["bill_type"]; kind {
	case "":
	case "ALL", "SUCCESS", "REFUND":
		a.kind = kind
	default:
		return a, v2Fault("invalid bill_type")
	}
	return a, nil
}

// holdsCertificate asks for the merchant's client certificate. Over plain HTTP there is none to ask for:
// then the call passes, unless the options insist on TLS.
func (s *Sim) holdsCertificate(r *http.Request) *v2Error {
	switch {
	case r.TLS == nil && !s.opts.NeedCertificate:
		return nil
	case r.TLS == nil || len(r.TLS.PeerCertificates) == 0:
		return v2Fault("No required SSL certificate was sent")
	}
	cert := r.TLS.PeerCertificates[0]
	if !strings.EqualFold(cert.SerialNumber.Text(16), strings.TrimLeft(s.opts.CertSerial, "0")) || !s.merchant.Equal(cert.PublicKey) {
		return v2Fault("商户证书校验失败，请核对证书与商户号")
	}
	return nil
}
