package wechat

import (
	"context"
	"errors"
	"slices"
	"time"
)

// An Advice says what to do about an error.
type Advice string

const (
	Retry      Advice = "retry"       // the same again, after RetryAfter
	LoginAgain Advice = "login_again" // let the phone call wx.login and send what it sent anew
	Alarm      Advice = "alarm"       // a person must look: our settings, our request or WeChat's answer is wrong
	GiveUp     Advice = "give_up"     // the answer is no, and stays no
)

// adviceOf is tried from the top: what an error Is first decides.
var adviceOf = []struct {
	kind   error
	advice Advice
}{
	{ErrProbe, Retry}, {ErrNotYet, Retry}, {ErrQuota, Retry},
	{ErrSessionKey, LoginAgain}, {ErrCodeInvalid, LoginAgain}, {ErrWatermark, LoginAgain},
	{ErrOrderPaid, GiveUp}, {ErrOrderClosed, GiveUp}, {ErrOrderNumber, GiveUp},
	{ErrNoOrder, GiveUp}, {ErrNoRefund, GiveUp}, {ErrNoBill, GiveUp},
	{ErrUserBlocked, GiveUp}, {ErrWindow, GiveUp}, {ErrOpenID, GiveUp}, {ErrRecipient, GiveUp},
	{ErrNotSubscribed, GiveUp}, {ErrContent, GiveUp}, {ErrMediaID, GiveUp},
	{ErrBusy, Retry}, {ErrTooOften, Retry},
	{ErrConfig, Alarm}, {ErrToken, Alarm}, {ErrNonsense, Alarm}, {ErrSignature, Alarm}, {ErrStale, Alarm},
	{ErrDecrypt, Alarm}, {ErrUnsealed, Alarm}, {ErrMalformed, Alarm},
}

// ourBug are words of WeChat Pay that only a fault of ours brings about.
var ourBug = []string{"PARAMERROR", "LACKPARAMS", "XMLFORMATERROR", "NOTUTF8", "POSTDATAEMPTY", "REQUIREPOSTMETHOD", "INVALIDREQUEST"}

// ourBugCode are errcodes of the same kind: a field is missing, of another type, or in the wrong place.
var ourBugCode = []int{40097, 47001, 40066, 43002, 44002, 41001, 268485216}

// AdviceOf says what to do about an error of this package; "" for nil. What is no error of WeChat's (the
// caller's context ended, a store failed) is to be tried again.
func AdviceOf(err error) Advice {
	if err == nil {
		return ""
	}
	for _, a := range adviceOf {
		if errors.Is(err, a.kind) {
			return a.advice
		}
	}
	var e *Error
	switch {
	case errors.As(err, &e) && (slices.Contains(ourBug, plainWord(e.Word)) || slices.Contains(ourBugCode, e.Code)):
		return Alarm
	case errors.Is(err, ErrRequest):
		return GiveUp
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Retry
	}
	return Retry
}

// Advice is AdviceOf(e).
func (e *Error) Advice() Advice { return AdviceOf(e) }

// RetryAfter is how long to wait before a Retry; 0: WeChat did not say, or a retry does not help.
func RetryAfter(err error) time.Duration {
	var e *Error
	if errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}
