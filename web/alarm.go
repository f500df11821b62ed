package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"wxhub/store"
)

// Kinds of alarms. Each is of something that only a person can mend.
const (
	alarmPayer          = "payment.payer"
	alarmLate           = "payment.late"
	alarmRefundConflict = "refund.conflict"
	alarmRefundRefused  = "refund.refused"
	alarmRefundAbnormal = "refund.abnormal"
	alarmRefundClosed   = "refund.closed"
	alarmBill           = "bill.difference"
	alarmBillFailing    = "bill.failing"
	alarmCertificates   = "pay.certificates"
	alarmShipping       = "shipping.failed"
	alarmOverdue        = "shipping.overdue"
	alarmAccess         = "shipping.access"
	alarmControlled     = "trade.controlled"
	alarmCall           = "wechat.call"
)

// alarmSteps say what to do about each kind, in Chinese and English.
var alarmSteps = map[string][2]string{
	store.AlarmConflict: {"钱已经到账，但与订单不符：到微信支付商户平台查这笔交易，决定发货还是退款", "Money arrived that fits no order: find the transaction in the merchant platform, then deliver or give it back"},
	alarmPayer:          {"付款人不是下单的人：确认后再发货", "Somebody else paid than who ordered: make sure before you deliver"},
	alarmLate:           {"订单关闭后才付款：决定发货还是退款", "It was paid after it was closed: deliver, or give the money back"},
	alarmRefundConflict: {"这笔退款与订单不符：到商户平台核对", "A refund fits no order: look it up in the merchant platform"},
	alarmRefundRefused:  {"微信支付没有接受退款：按原因处理后重新退款", "WeChat Pay did not take a refund: see the reason, mend it, refund again"},
	alarmRefundAbnormal: {"退款没有到用户账户：到商户平台处理异常退款", "A refund did not arrive: handle it in the merchant platform"},
	alarmRefundClosed:   {"退款已关闭，钱没有退：需要时重新退款", "A refund was closed and gave nothing back: refund again if it is due"},
	alarmBill:           {"对账单与账目不一致：查看对账页的每一条差异", "The bill and our books disagree: see each difference under reconciliation"},
	alarmBillFailing:    {"对账单取不到：检查支付设置和商户平台权限", "The bill cannot be had: check the payment settings and the merchant's rights"},
	alarmCertificates:   {"平台证书没有更新成功：检查支付设置", "Platform certificates could not be renewed: check the payment settings"},
	alarmShipping:       {"发货信息没有上传成功：按原因改正后再次提交", "WeChat did not take the shipping information: mend it and send it again"},
	alarmOverdue:        {"订单超过 48 小时没有发货：尽快填写发货信息", "An order is not shipped after 48 hours: enter how it is delivered"},
	alarmAccess:         {"微信提醒接入发货信息管理：否则支付会受限", "WeChat reminds of shipping management: payment may be restricted without it"},
	alarmControlled:     {"小程序交易被管控：到小程序后台查看原因", "Trade is restricted: see the mini-program's console for why"},
	alarmCall:           {"微信的接口拒绝了我们：按错误码检查设置", "WeChat refuses a call of ours: check the settings by its code"},
}

// alarmView is an alarm as admins see it.
type alarmView struct {
	ID      string `json:"id"`
	Kind    string `json:"kind" doc:"A word: payment.conflict, refund.abnormal …"`
	Subject string `json:"subject" doc:"The order, refund, day or call that it is about; may be empty"`
	Text    string `json:"text" doc:"What happened, as told last"`
	Step    string `json:"step" doc:"What to do, in the language of Accept-Language"`
	FirstAt int64  `json:"firstAt" doc:"milliseconds"`
	LastAt  int64  `json:"lastAt" doc:"milliseconds"`
	Times   int    `json:"times" doc:"How often it was raised while it was open"`
	AckedAt int64  `json:"ackedAt,omitempty" doc:"milliseconds; absent: open"`
	AckedBy string `json:"ackedBy,omitempty"`
	Note    string `json:"note,omitempty"`
}

func viewAlarm(a store.Alarm, language string) alarmView {
	v := alarmView{
		ID: a.ID, Kind: a.Kind, Subject: a.Subject, Text: a.Text, Step: inLanguage(alarmSteps[a.Kind], language),
		FirstAt: a.FirstAt.UnixMilli(), LastAt: a.LastAt.UnixMilli(), Times: a.Times, AckedBy: a.AckedBy, Note: a.Note,
	}
	if !a.AckedAt.IsZero() {
		v.AckedAt = a.AckedAt.UnixMilli()
	}
	return v
}

func inLanguage(both [2]string, language string) string {
	if language == "en" {
		return both[1]
	}
	return both[0]
}

func (s *Server) routeAlarms() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/alarms", access: admins, tag: "admin", summary: "What a person has to look at, the newest first",
		description: "The same kind and subject again counts in `times` while the alarm is open.",
		errors:      []int{http.StatusBadRequest},
	}, func(ctx context.Context, in *struct {
		State   string `query:"state" enum:"open,all" default:"open"`
		Kind    string `query:"kind" maxLength:"128"`
		Subject string `query:"subject" maxLength:"128"`
		Before  int64  `query:"before" minimum:"0" maximum:"253402300799999" doc:"Only alarms last raised before: lastAt of the last one, to go on"`
		Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	}) ([]alarmView, error) {
		q := store.AlarmQuery{Open: in.State == "open", Kind: in.Kind, Subject: in.Subject, Limit: in.Limit}
		if in.Before > 0 {
			q.Before = time.UnixMilli(in.Before)
		}
		all, err := s.o.Store.Alarms(ctx, q)
		if err != nil {
			return nil, err
		}
		views := make([]alarmView, len(all))
		for i, a := range all {
			views[i] = viewAlarm(a, requestOf(ctx).language)
		}
		return views, nil
	})
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/alarms/{id}/ack", access: admins, tag: "admin", summary: "Acknowledge an alarm: somebody has seen to it",
		description: "One that was acknowledged before stays as it is. What happens again afterwards is a new alarm.",
		errors:      []int{http.StatusBadRequest, http.StatusNotFound},
	}, func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"64"`
		Body *struct {
			Note string `json:"note,omitempty" maxLength:"500" doc:"What was done about it"`
		}
	}) (alarmView, error) {
		note := ""
		if in.Body != nil {
			note = in.Body.Note
		}
		a, err := s.o.Store.AckAlarm(ctx, in.ID, requestOf(ctx).who(), note)
		if errors.Is(err, store.ErrNotFound) {
			return alarmView{}, &Error{Status: http.StatusNotFound, Code: "not_found", Err: err}
		}
		if err != nil {
			return alarmView{}, err
		}
		s.audit(ctx, "acknowledge", "alarm "+a.Kind+" "+a.Subject)
		return viewAlarm(a, requestOf(ctx).language), nil
	})
}

// hookAlarm is the data of the hook event "alarm".
type hookAlarm struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// watchAlarms logs and counts every alarm of this process, and has hooks told of the first of a kind and subject.
func (s *Server) watchAlarms() {
	s.alarms = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "wxhub_alarms_total", Help: "Alarms raised here, by kind; one that is open counts again.",
	}, []string{"kind"})
	for _, kind := range slices.Sorted(maps.Keys(alarmSteps)) { // there from the start, so that a first increase shows
		s.alarms.WithLabelValues(kind)
	}
	s.o.Store.WatchAlarms(store.AlarmWatch{
		Tell: func(a store.Alarm) []store.Telling {
			return tellHook(s.o.Hooks, "alarm", cmp.Or(a.Subject, a.Kind), "alarm:"+a.ID, a.FirstAt, hookAlarm{a.ID, a.Kind, a.Subject, a.Text})
		},
		Raised: func(a store.Alarm) {
			s.alarms.WithLabelValues(a.Kind).Inc()
			s.log.Error("ALARM: "+a.Text, "kind", a.Kind, "subject", a.Subject, "times", a.Times)
		},
	})
}

// raise raises an alarm beside what is done otherwise: a store that is away is logged.
func raise(ctx context.Context, db *store.DB, log *slog.Logger, kind, subject, format string, args ...any) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteWait)
	defer cancel()
	text := fmt.Sprintf(format, args...)
	if err := db.RaiseAlarm(ctx, kind, subject, text); err != nil {
		log.Error("ALARM, which could not be kept: "+text, "kind", kind, "subject", subject, "err", err)
	}
}

// alarmFigures reads the open alarms when somebody asks.
type alarmFigures struct{ s *Server }

var alarmsOpen = desc("wxhub_alarms_open", "Alarms that nobody acknowledged, by kind.", "kind")

// Describe is for prometheus.Collector.
func (f alarmFigures) Describe(ch chan<- *prometheus.Desc) { ch <- alarmsOpen }

// Collect is for prometheus.Collector.
func (f alarmFigures) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	open, err := f.s.o.Store.OpenAlarms(ctx)
	if err != nil {
		return // readiness and the log tell of it
	}
	for kind, n := range open {
		ch <- prometheus.MustNewConstMetric(alarmsOpen, prometheus.GaugeValue, float64(n), kind)
	}
}
