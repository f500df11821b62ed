package wechat

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// Each code of the platform, and what is to be done about it.
func TestAdvice_codes(t *testing.T) {
	for _, c := range []struct {
		codes     []int
		tokenUsed bool
		want      Advice
	}{
		{[]int{-1, 45011, 45009, 43108, 44990, 44991, 10060001}, true, Retry},
		{[]int{40029, 40163, 87007, 87009}, true, LoginAgain},
		{[]int{40226, 45015, 45047, 45080, 40003, 43004, 70000, 43101, 45168, 40007, 43104, 61010, 89300}, true, GiveUp},
		{[]int{40013, 40125, 41002, 41004, 40243, 40164, 89503, 89506, 89507, 61004, 48001, 43107}, true, Alarm},
		{[]int{40001, 40014, 42001}, true, Alarm}, // after the one retry
		{[]int{40001}, false, Alarm},
		{[]int{47001, 40097, 268485216}, true, Alarm}, // our request is wrong
		{[]int{45002, 44004, 47003, 40037, 41030, 40129, 40169, 40159, 45029, 85079, 10060002, 10060003, 10060004, 99999}, true, GiveUp},
	} {
		for _, code := range c.codes {
			wait, kind := kindOf(code, c.tokenUsed)
			err := error(&Error{Op: "x", Code: code, Kind: kind, RetryAfter: wait})
			if got := AdviceOf(fmt.Errorf("more: %w", err)); got != c.want {
				t.Errorf("%d: %s, want %s", code, got, c.want)
			}
			if c.want == Retry && RetryAfter(err) < time.Second {
				t.Errorf("%d: again at once", code)
			}
		}
	}
}

// The words of WeChat Pay, as either version and every page spells them.
func TestAdvice_words(t *testing.T) {
	for want, words := range map[Advice][]string{
		Retry:  {"SYSTEMERROR", "SYSTEM_ERROR", "BANK_ERROR", "BANKERROR", "BIZERR_NEED_RETRY", "FREQUENCY_LIMITED", "FREQUENCY_LIMIT_EXCEED", "RATELIMIT_EXCEEDED", "INVALID_REQ_TOO_MUCH", "STATEMENT_CREATING"},
		GiveUp: {"ORDERPAID", "ORDER_PAID", "ORDERCLOSED", "ORDER_CLOSED", "OUT_TRADE_NO_USED", "ORDERNOTEXIST", "ORDER_NOT_EXIST", "NOTENOUGH", "TRADE_OVERDUE", "USER_ACCOUNT_ABNORMAL", "RULE_LIMIT", "RULELIMIT", "TRADE_ERROR", "ACCOUNT_ERROR", "OPENID_MISMATCH", "NO_STATEMENT_EXIST", "REFUNDNOTEXIST"},
		Alarm:  {"SIGNERROR", "SIGN_ERROR", "XML_FORMAT_ERROR", "LACK_PARAMS", "PARAM_ERROR", "NOT_UTF8", "POST_DATA_EMPTY", "REQUIRE_POST_METHOD", "INVALID_REQUEST", "APPID_NOT_EXIST", "MCHID_NOT_EXIST", "APPID_MCHID_NOT_MATCH", "NOAUTH", "NO_AUTH", "MCH_NOT_EXISTS"},
	} {
		for _, word := range words {
			err := &Error{Op: opPrepay, Word: word, Kind: payKindOf(word, 200), Err: payFact(opPrepay, word)}
			if got := err.Advice(); got != want {
				t.Errorf("%s: %s, want %s", word, got, want)
			}
		}
	}
}

func TestAdvice_others(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Advice
	}{
		{nil, ""},
		{ErrProbe, Retry}, {fmt.Errorf("%w: %w", ErrSignature, ErrProbe), Retry}, // no alarm
		{ErrSignature, Alarm}, {ErrUnsealed, Alarm}, {ErrDecrypt, Alarm},
		{errUserData, LoginAgain}, {ErrWatermark, LoginAgain},
		{context.Canceled, Retry}, {errors.New("the store is away"), Retry},
	} {
		if got := AdviceOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
	if RetryAfter(nil) != 0 || RetryAfter(errors.New("x")) != 0 {
		t.Error("a wait out of nothing")
	}
}
