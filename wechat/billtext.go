package wechat

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const maxBillLine = 64 << 10 // bytes

// A billTable is a bill's text: a line of names, lines of values, each of which begins with a backtick, and two
// lines of totals.
type billTable struct {
	column map[string]int
	rows   [][]string
	totals map[string]string
}

// readBillTable reads a bill strictly. Columns may be new, and in any order. Error: ErrMalformed.
func readBillTable(b []byte) (billTable, error) {
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(b) {
		return billTable{}, refuse(ErrMalformed, "a bill that is not UTF-8")
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(make([]byte, 0, 4096), maxBillLine)
	var t billTable
	var totalNames []string
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		switch {
		case line == "":
		case t.totals != nil:
			return billTable{}, refuse(ErrMalformed, "a bill that goes on behind its totals")
		case t.column == nil:
			t.column = map[string]int{}
			for i, name := range strings.Split(line, ",") {
				if _, twice := t.column[name]; twice {
					return billTable{}, refuse(ErrMalformed, "a bill with a column twice")
				}
				t.column[name] = i
			}
		case !strings.HasPrefix(line, "`"):
			if totalNames != nil {
				return billTable{}, refuse(ErrMalformed, "a bill with a line that is no row")
			}
			totalNames = strings.Split(line, ",")
		case totalNames != nil:
			values := billValues(line)
			if len(values) != len(totalNames) {
				return billTable{}, refuse(ErrMalformed, "a bill whose totals do not fit their names")
			}
			t.totals = map[string]string{}
			for i, name := range totalNames {
				t.totals[name] = values[i]
			}
		default:
			values := billValues(line)
			if len(values) != len(t.column) {
				return billTable{}, refuse(ErrMalformed, "a bill with a row that does not fit its columns")
			}
			t.rows = append(t.rows, values)
		}
	}
	switch {
	case errors.Is(lines.Err(), bufio.ErrTooLong):
		return billTable{}, refuse(ErrMalformed, "a bill with a line that is far too long")
	case t.totals == nil:
		return billTable{}, refuse(ErrMalformed, "a bill without totals: it is cut off")
	}
	return t, nil
}

// billValues splits a row where a comma and a backtick meet: a comma alone may stand in a product's name.
func billValues(line string) []string {
	return strings.Split(strings.TrimPrefix(line, "`"), ",`")
}

// has tells whether one of the names is a column.
func (t billTable) has(names ...string) bool {
	for _, name := range names {
		if _, ok := t.column[name]; ok {
			return true
		}
	}
	return false
}

// A billReader reads the values of one row and remembers the first that is wrong.
type billReader struct {
	table *billTable
	row   []string
	err   error
}

// text is the value of the first of the columns that there is.
func (r *billReader) text(names ...string) string {
	for _, name := range names {
		if i, ok := r.table.column[name]; ok {
			return r.row[i]
		}
	}
	return ""
}

func (r *billReader) fen(names ...string) int64 {
	s := r.text(names...)
	if s == "" {
		return 0
	}
	n, ok := fenOfYuan(s)
	if !ok && r.err == nil {
		r.err = refuse(ErrMalformed, "a bill with an amount that is none")
	}
	return n
}

// fee is an amount with parts of a fen, which is rounded.
func (r *billReader) fee(name string) int64 {
	s := r.text(name)
	digits, negative := strings.CutPrefix(s, "-")
	if i := strings.IndexByte(digits, '.'); i >= 0 && len(digits) > i+3 {
		if strings.Trim(digits[i+3:], "0123456789") != "" || len(digits) > i+9 {
			r.err = cmp.Or(r.err, refuse(ErrMalformed, "a bill with an amount that is none"))
			return 0
		}
		n, ok := fenOfYuan(digits[:i+3])
		if !ok {
			r.err = cmp.Or(r.err, refuse(ErrMalformed, "a bill with an amount that is none"))
			return 0
		}
		if digits[i+3] >= '5' {
			n++
		}
		if negative {
			n = -n
		}
		return n
	}
	return r.fen(name)
}

func (r *billReader) time(name string) time.Time {
	at, err := time.ParseInLocation(v2Day, r.text(name), beijing)
	if err != nil && r.err == nil {
		r.err = refuse(ErrMalformed, "a bill with a time that is none")
	}
	return at
}

// fenOfYuan reads an amount like 1234.5 or -0.01 without a rounding error.
func fenOfYuan(s string) (int64, bool) {
	digits, negative := strings.CutPrefix(s, "-")
	yuan, part, _ := strings.Cut(digits, ".")
	if yuan == "" || len(yuan) > 15 || len(part) > 2 && strings.Trim(part[2:], "0") != "" || strings.HasSuffix(digits, ".") {
		return 0, false
	}
	part = (part + "00")[:2]
	n, err := strconv.ParseUint(yuan+part, 10, 63)
	if err != nil {
		return 0, false
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), true
}

// readTradeBill reads the trade bill of either version. The totals must fit the rows: their number, and what was paid.
// Error: ErrMalformed.
func readTradeBill(b []byte) ([]BillRow, error) {
	t, err := readBillTable(b)
	if err != nil {
		return nil, err
	}
	if !t.has("交易时间") || !t.has("微信订单号") || !t.has("商户订单号") || !t.has("交易状态") || !t.has("应结订单金额", "总金额", "订单金额") {
		return nil, refuse(ErrMalformed, "a bill without the columns of trade")
	}
	rows := make([]BillRow, 0, len(t.rows))
	var settled int64
	for _, row := range t.rows {
		r := billReader{table: &t, row: row}
		one := BillRow{
			At: r.time("交易时间"), AppID: r.text("公众账号ID"), MchID: r.text("商户号"),
			TransactionID: r.text("微信订单号"), OutTradeNo: r.text("商户订单号"), OpenID: r.text("用户标识"),
			TradeType: r.text("交易类型"), State: r.text("交易状态"),
			RefundID: r.text("微信退款单号"), OutRefundNo: r.text("商户退款单号"), RefundState: r.text("退款状态"),
			TotalFen: r.fen("订单金额", "总金额", "应结订单金额"), SettledFen: r.fen("应结订单金额", "总金额", "订单金额"),
			CouponFen: r.fen("代金券金额", "代金券或立减优惠金额", "企业红包金额"),
			RefundFen: r.fen("申请退款金额", "退款金额"), FeeFen: r.fee("手续费"),
			Currency: orElse(r.text("货币种类"), "CNY"), Description: r.text("商品名称"), Attach: r.text("商户数据包"),
		}
		if one.RefundID == "0" { // how the bill says: none
			one.RefundID, one.OutRefundNo = "", ""
		}
		switch {
		case r.err != nil:
			return nil, r.err
		case one.TransactionID == "" || one.OutTradeNo == "" || one.State == "":
			return nil, refuse(ErrMalformed, "a bill with a row that names no order")
		}
		settled += one.SettledFen
		rows = append(rows, one)
	}
	if err := t.fits("总交易单数", len(rows)); err != nil {
		return nil, err
	}
	for _, name := range []string{"应结订单总金额", "总交易额"} {
		if want, ok := fenOfYuan(t.totals[name]); t.totals[name] != "" && (!ok || want != settled) {
			return nil, refuse(ErrMalformed, "a bill whose total is not the sum of its rows")
		}
	}
	return rows, nil
}

// readFundBill reads the fund bill of either version. Error: ErrMalformed.
func readFundBill(b []byte) ([]FundRow, error) {
	t, err := readBillTable(b)
	if err != nil {
		return nil, err
	}
	if !t.has("记账时间") || !t.has("资金流水单号") || !t.has("收支类型") || !t.has("收支金额(元)", "收支金额（元）") {
		return nil, refuse(ErrMalformed, "a bill without the columns of funds")
	}
	rows := make([]FundRow, 0, len(t.rows))
	for _, row := range t.rows {
		r := billReader{table: &t, row: row}
		one := FundRow{
			At: r.time("记账时间"), TransactionID: r.text("微信支付业务单号"), FlowID: r.text("资金流水单号"),
			Business: r.text("业务名称"), Kind: r.text("业务类型"), In: r.text("收支类型") == "收入",
			AmountFen: r.fen("收支金额(元)", "收支金额（元）"), BalanceFen: r.fen("账户结余(元)", "账户结余（元）"),
			Applicant: r.text("资金变更提交申请人"), Note: r.text("备注"), Proof: r.text("业务凭证号"),
		}
		if r.err != nil {
			return nil, r.err
		}
		if !one.In && r.text("收支类型") != "支出" {
			return nil, refuse(ErrMalformed, "a bill with money that neither came nor went")
		}
		rows = append(rows, one)
	}
	return rows, t.fits("资金流水总笔数", len(rows))
}

// fits holds the number of rows against the total of that name, which must be there.
func (t billTable) fits(name string, n int) error {
	total, err := strconv.ParseFloat(t.totals[name], 64) // "2", and in some bills "2.0"
	if err != nil || total != float64(n) {
		return refuse(ErrMalformed, "a bill with another number of rows than its totals say")
	}
	return nil
}
