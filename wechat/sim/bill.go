package sim

import (
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	billHour     = 10 // of the next day in Beijing, when bills are ready
	billMonths   = 3
	billURLLife  = 5 * time.Minute
	maxBills     = 8  // made and waiting to be downloaded
	feePerTenK   = 60 // 0.60 %
	billFeeRate  = "0.60%"
	billDate     = time.DateOnly
	noBill       = "NO_STATEMENT_EXIST"
	billTrade    = "trade"
	billFundFlow = "fundflow"
)

// bill is one made bill that waits to be downloaded.
type bill struct {
	token  string
	file   []byte // as downloaded
	gzip   bool
	madeAt time.Time
}

// billAsk is what a bill is asked for by.
type billAsk struct {
	what  string // trade or fundflow
	kind  string // ALL, SUCCESS or REFUND
	day   time.Time
	gzip  bool
	spoil string // see Fault.Bill
}

// badDay tells whether no bill of that day can be had: it is too early or too old.
func (s *Sim) badDay(day time.Time) bool {
	now := beijing(s.opts.Now())
	if day.Before(now.AddDate(0, -billMonths, 0)) || day.After(now) {
		return true
	}
	return !s.opts.EarlyBills && now.Before(day.AddDate(0, 0, 1).Add(billHour*time.Hour))
}

// tradeBill is GET /v3/bill/tradebill, fundBill GET /v3/bill/fundflowbill.
func (s *Sim) tradeBill(r *http.Request, _ []byte) (any, *payError) { return s.giveBill(r, billTrade) }
func (s *Sim) fundBill(r *http.Request, _ []byte) (any, *payError) {
	return s.giveBill(r, billFundFlow)
}

func (s *Sim) giveBill(r *http.Request, what string) (any, *payError) {
	q := r.URL.Query()
	refuse := func(field, issue string) (any, *payError) {
		return nil, &payError{status: 400, code: "PARAM_ERROR", message: "输入源“/query/" + field + "”" + issue,
			detail: map[string]any{"location": "query", "field": field, "value": clip(q.Get(field), 64), "issue": issue}}
	}
	a := billAsk{what: what, kind: "ALL"}
	var err error
	if a.day, err = time.ParseInLocation(billDate, q.Get("bill_date"), beijing(time.Time{}).Location()); err != nil {
		return refuse("bill_date", "格式规则校验失败，应为YYYY-MM-DD")
	}
	if kind := q.Get("bill_type"); kind != "" && what == billTrade {
		if a.kind = kind; !slices.Contains([]string{"ALL", "SUCCESS", "REFUND"}, kind) {
			return refuse("bill_type", "枚举值规则校验失败")
		}
	}
	if kind := q.Get("account_type"); kind != "" && what == billFundFlow && !slices.Contains([]string{"BASIC", "OPERATION", "FEES"}, kind) {
		return refuse("account_type", "枚举值规则校验失败")
	}
	switch q.Get("tar_type") {
	case "GZIP":
		a.gzip = true
	case "":
	default:
		return refuse("tar_type", "枚举值规则校验失败，应为GZIP")
	}
	if f := faultOf(r); f != nil {
		a.spoil = f.Bill
	}
	if s.badDay(a.day) {
		return nil, &payError{status: 400, code: noBill, message: "账单文件不存在"}
	}
	text := s.writeBill(a)
	if text == nil {
		return nil, &payError{status: 400, code: noBill, message: "账单文件不存在"}
	}
	sum := sha1.Sum(text) // of the bill itself, also when it is packed
	if a.spoil == "hash" {
		sum[0]++
	}
	b := bill{token: random(letters, 48), file: text, gzip: a.gzip, madeAt: s.opts.Now()}
	if a.gzip {
		b.file = packed(text)
	}
	s.mu.Lock()
	if len(s.bills) >= maxBills {
		s.bills = slices.Clone(s.bills[1:])
	}
	s.bills = append(s.bills, b)
	s.mu.Unlock()
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return map[string]string{"hash_type": "SHA1", "hash_value": hex.EncodeToString(sum[:]),
		"download_url": scheme + "://" + r.Host + "/v3/billdownload/file?token=" + b.token}, nil
}

// downloadBill is GET /v3/billdownload/file: the request is signed, the answer is not.
func (s *Sim) downloadBill(w http.ResponseWriter, r *http.Request) outcome {
	_, e := s.openV3(r)
	if e != nil {
		return s.answerV3(w, r, e, nil)
	}
	token := r.URL.Query().Get("token")
	now := s.opts.Now()
	s.mu.Lock()
	i := slices.IndexFunc(s.bills, func(b bill) bool { return same(b.token, token) && now.Sub(b.madeAt) <= billURLLife })
	var b bill
	if i >= 0 {
		b = s.bills[i]
	}
	s.mu.Unlock()
	if i < 0 {
		return s.answerV3(w, r, &payError{status: 400, code: "INVALID_REQUEST", message: "下载地址无效或已过期，请重新申请账单"}, nil)
	}
	w.Header().Set("Content-Type", map[bool]string{true: "application/x-gzip", false: "text/plain; charset=utf-8"}[b.gzip])
	_, _ = w.Write(b.file)
	return outcome{}
}

func packed(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(text)
	if err = errors.Join(err, z.Close()); err != nil {
		panic("sim: " + err.Error()) // a buffer takes everything
	}
	return b.Bytes()
}

// billRow is one payment or refund of a bill.
type billRow struct {
	at     time.Time
	order  order   // a copy
	refund *refund // a copy; nil: a payment
}

// billRows are the payments and refunds of a day, oldest first.
func (s *Sim) billRows(day time.Time, kind string) (rows []billRow) {
	end := day.AddDate(0, 0, 1)
	in := func(at time.Time) bool { return !at.IsZero() && !at.Before(day) && at.Before(end) }
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.line {
		if in(o.paidAt) && kind != "REFUND" {
			rows = append(rows, billRow{at: o.paidAt, order: *o})
		}
		for _, r := range o.refunds {
			if in(r.madeAt) && r.status != refundClosed && kind != "SUCCESS" {
				copied := *r
				rows = append(rows, billRow{at: r.madeAt, order: *o, refund: &copied})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b billRow) int { return a.at.Compare(b.at) })
	return rows
}

// writeBill renders a bill, nil when nothing happened that day.
func (s *Sim) writeBill(a billAsk) []byte {
	rows := s.billRows(a.day, a.kind)
	switch {
	case a.spoil == "drop" && len(rows) > 0:
		rows = rows[:len(rows)-1]
	case a.spoil == "amount" && len(rows) > 0:
		rows[0].order.total++
	case a.spoil == "extra":
		now := a.day.Add(12 * time.Hour)
		rows = append(rows, billRow{at: now, order: order{prepayParams: prepayParams{outTradeNo: "UNKNOWN" + random(digits, 12), openid: s.openidOf("nobody"),
			description: "未知订单", total: 100}, transactionID: "4200" + random(digits, 24), paidAt: now}})
	}
	if len(rows) == 0 {
		return nil
	}
	if a.what == billFundFlow {
		return s.fundLines(rows)
	}
	return s.tradeLines(rows, a.kind)
}

// yuan renders fen as bills do.
func yuan(fen int64) string {
	sign := ""
	if fen < 0 {
		sign, fen = "-", -fen
	}
	return fmt.Sprintf("%s%d.%02d", sign, fen/100, fen%100)
}

func feeOf(fen int64) int64 { return (fen*feePerTenK + 5000) / 10_000 }

// billFee renders a fee with five decimals, as bills do.
func billFee(fen int64) string { return yuan(fen) + "000" }

// billLine joins fields as bills do: each behind a backtick, so that spreadsheets leave it alone. What
// would end a field becomes a space.
func billLine(fields []string) string {
	clean := make([]string, len(fields))
	for i, f := range fields {
		clean[i] = "`" + strings.NewReplacer("\r", " ", "\n", " ", ",", " ", "`", " ").Replace(f)
	}
	return strings.Join(clean, ",") + "\r\n"
}

// The columns of the trade bills, by their kind.
const (
	columnsAll = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额," +
		"微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	columnsSuccess = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额," +
		"商品名称,商户数据包,手续费,费率,订单金额,费率备注"
	columnsRefund = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额," +
		"退款申请时间,退款成功时间,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
	columnsSum  = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额"
	columnsFund = "记账时间,微信支付业务单号,资金流水单号,业务名称,业务类型,收支类型,收支金额（元）,账户结余（元）,资金变更提交申请人,备注,业务凭证号"
	columnsFlow = "资金流水总笔数,收入笔数,收入金额,支出笔数,支出金额"
)

func (s *Sim) tradeLines(rows []billRow, kind string) []byte {
	var b bytes.Buffer
	b.WriteString(map[string]string{"ALL": columnsAll, "SUCCESS": columnsSuccess, "REFUND": columnsRefund}[kind] + "\r\n")
	var total, refunded, fees int64
	for _, row := range rows {
		o, state, fee, sum := row.order, statePaid, feeOf(row.order.total), row.order.total
		back := []string{"0", "0", yuan(0), yuan(0), "", ""}
		asked := yuan(0)
		if r := row.refund; r != nil {
			state, fee, sum = stateRefunded, -feeOf(r.fee), 0
			back = []string{r.id, r.outRefundNo, yuan(r.fee), yuan(0), "ORIGINAL", r.status}
			asked = yuan(r.fee)
			refunded += r.fee
		}
		total, fees = total+sum, fees+fee
		f := []string{beijing(row.at).Format(time.DateTime), s.opts.AppID, s.opts.MchID, "0", "", o.transactionID, o.outTradeNo, o.openid,
			"JSAPI", state, "OTHERS", "CNY", yuan(sum), yuan(0)}
		switch kind {
		case "REFUND":
			done := ""
			if !row.refund.doneAt.IsZero() {
				done = beijing(row.refund.doneAt).Format(time.DateTime)
			}
			f = append(append(f, beijing(row.refund.madeAt).Format(time.DateTime), done), back...)
		case "ALL":
			f = append(f, back...)
		}
		f = append(f, o.description, o.attach, billFee(fee), billFeeRate, yuan(sum))
		if kind != "SUCCESS" {
			f = append(f, asked)
		}
		b.WriteString(billLine(append(f, "")))
	}
	b.WriteString(columnsSum + "\r\n")
	b.WriteString(billLine([]string{fmt.Sprint(len(rows)), yuan(total), yuan(refunded), yuan(0), billFee(fees), yuan(total), yuan(refunded)}))
	return b.Bytes()
}

// fundLines is the bill of the account: payments come in, fees and refunds go out. The balance begins with the day.
func (s *Sim) fundLines(rows []billRow) []byte {
	var b bytes.Buffer
	b.WriteString(columnsFund + "\r\n")
	var balance, in, out int64
	count, ins := 0, 0
	line := func(row billRow, name string, fen int64, no string) {
		direction := "收入"
		balance += fen
		count++
		if fen < 0 {
			direction = "支出"
			out -= fen
		} else {
			in += fen
			ins++
		}
		b.WriteString(billLine([]string{beijing(row.at).Format(time.DateTime), row.order.transactionID, fmt.Sprintf("%s%02d", row.order.transactionID, count%100),
			name, name, direction, yuan(max(fen, -fen)), yuan(balance), "system", "", no}))
	}
	for _, row := range rows {
		if r := row.refund; r != nil {
			line(row, "退款", -r.fee, r.outRefundNo)
			continue
		}
		line(row, "交易", row.order.total, row.order.outTradeNo)
		if fee := feeOf(row.order.total); fee > 0 {
			line(row, "扣除交易手续费", -fee, row.order.outTradeNo)
		}
	}
	b.WriteString(columnsFlow + "\r\n")
	b.WriteString(billLine([]string{fmt.Sprint(count), fmt.Sprint(ins), yuan(in), fmt.Sprint(count - ins), yuan(out)}))
	return b.Bytes()
}
