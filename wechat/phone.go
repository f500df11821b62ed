package wechat

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
)

const opPhone = "getuserphonenumber"

// PhoneNumber redeems the code of the phone number button (wxa/business/getuserphonenumber). It is
// another code than wx.login's, good once and for five minutes; each success costs the account a little
// money, so the same code twice at once makes one call. The data's watermark must be of this app, no
// older than 5 minutes.
// Errors: *Error, which Is ErrCodeInvalid, ErrWatermark, ErrTooOften, ErrBusy, ErrToken, ErrConfig,
// ErrNonsense or ErrRequest. After ErrBusy the code may be spent: let the user press again.
func (c *Client) PhoneNumber(ctx context.Context, code string) (UserData, error) {
	if code == "" || len(code) > maxCode {
		return UserData{}, &Error{Op: opPhone, Kind: ErrCodeInvalid, Msg: "no code, or one far too long"}
	}
	ch := c.phones.DoChan(code, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*c.timeout) // a token may be fetched first
		defer cancel()
		return c.redeemPhone(ctx, code)
	})
	select {
	case r := <-ch:
		u, _ := r.Val.(UserData)
		return u, r.Err
	case <-ctx.Done():
		return UserData{}, &Error{Op: opPhone, Kind: ErrBusy, Err: ctx.Err()}
	}
}

func (c *Client) redeemPhone(ctx context.Context, code string) (UserData, error) {
	in := struct {
		Code string `json:"code"`
	}{code}
	var got struct {
		Info json.RawMessage `json:"phone_info"` // of the shape that encryptedData has inside
	}
	err := c.post(ctx, opPhone, "/wxa/business/getuserphonenumber", in, &got, code)
	var e *Error
	if errors.As(err, &e) && e.Code == 40013 {
		e.Kind = ErrCodeInvalid // the token is good, so it is the code that belongs to another app
	}
	if err != nil {
		return UserData{}, err
	}
	u, err := c.readUserData(got.Info)
	switch {
	case errors.Is(err, ErrWatermark):
		return UserData{}, &Error{Op: opPhone, Status: http.StatusOK, Kind: ErrWatermark, Err: err}
	case err != nil || u.PhoneNumber == "":
		return UserData{}, &Error{Op: opPhone, Status: http.StatusOK, Kind: ErrNonsense, Msg: "success without a phone number"}
	}
	return u, nil
}
