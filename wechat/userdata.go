package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"log/slog"
	"time"
)

const (
	watermarkAge  = 5 * time.Minute // older data may have been captured
	watermarkSkew = time.Minute     // how far WeChat's clock may be ahead of ours
	maxEncrypted  = 64 << 10        // characters; user data has some hundreds, step data some thousands
)

// UserData is what encryptedData holds; fields absent in it are empty.
type UserData struct {
	OpenID, UnionID, Nickname, Avatar         string
	PhoneNumber, PurePhoneNumber, CountryCode string
	At                                        time.Time // the watermark's
}

// String hides all of it: these are a person's data.
func (u UserData) String() string { return "wechat.UserData{" + hidden + "}" }

// GoString hides all of it.
func (u UserData) GoString() string { return u.String() }

// LogValue hides all of it.
func (u UserData) LogValue() slog.Value { return slog.StringValue(u.String()) }

// DecryptUserData opens encryptedData with a session_key and demands the watermark of this app, no older
// than 5 minutes (ErrDecrypt, ErrWatermark). ErrDecrypt, which Is ErrSessionKey too, mostly means that the phone has
// logged in again since, so that the session_key is of another session: let it log in and send the data anew.
func (c *Client) DecryptUserData(sessionKey, encryptedData, iv string) (UserData, error) {
	plain, err := openUserData(sessionKey, encryptedData, iv)
	if err != nil {
		return UserData{}, err
	}
	return c.readUserData(plain)
}

// A RunDay is how many steps somebody took in a day.
type RunDay struct {
	At    time.Time // the day's beginning, in Beijing
	Steps int64
}

// RunData is what encryptedData of wx.getWeRunData holds: the last thirty days.
type RunData struct {
	Days []RunDay
	At   time.Time // the watermark's
}

// String hides all of it: these are a person's data.
func (r RunData) String() string { return "wechat.RunData{" + hidden + "}" }

// GoString hides all of it.
func (r RunData) GoString() string { return r.String() }

// LogValue hides all of it.
func (r RunData) LogValue() slog.Value { return slog.StringValue(r.String()) }

// DecryptRunData opens the encryptedData of wx.getWeRunData; see DecryptUserData. ErrRequest: it
// holds no steps.
func (c *Client) DecryptRunData(sessionKey, encryptedData, iv string) (RunData, error) {
	fields, at, err := c.openMarked(sessionKey, encryptedData, iv)
	if err != nil {
		return RunData{}, err
	}
	list, ok := fields["stepInfoList"].([]any)
	r := RunData{At: at}
	for _, one := range list {
		day := object(one)
		steps, ok1 := whole(day["step"])
		seconds, ok2 := whole(day["timestamp"])
		if ok = ok && ok1 && ok2 && steps >= 0; !ok {
			break
		}
		r.Days = append(r.Days, RunDay{time.Unix(seconds, 0).In(beijing), steps})
	}
	if !ok {
		return RunData{}, refuse(ErrRequest, "no steps in it")
	}
	return r, nil
}

// DecryptGroupID opens the encryptedData of a share to a group: the group's id for this app. See DecryptUserData.
// ErrRequest: it holds no group.
func (c *Client) DecryptGroupID(sessionKey, encryptedData, iv string) (openGID string, err error) {
	fields, _, err := c.openMarked(sessionKey, encryptedData, iv)
	if err != nil {
		return "", err
	}
	openGID = scalar(fields["openGId"])
	if openGID == "" || len(openGID) > maxID {
		return "", refuse(ErrRequest, "no group in it")
	}
	return openGID, nil
}

func (c *Client) openMarked(sessionKey, encryptedData, iv string) (map[string]any, time.Time, error) {
	plain, err := openUserData(sessionKey, encryptedData, iv)
	if err != nil {
		return nil, time.Time{}, err
	}
	return c.readMarked(plain)
}

// errUserData says nothing of why: the sender could learn the text from the padding. The remedy is always the same.
var errUserData = fmt.Errorf("%w: %w", ErrDecrypt, ErrSessionKey)

// openUserData decrypts. Error: errUserData.
func openUserData(sessionKey, encryptedData, iv string) ([]byte, error) {
	if len(encryptedData) > maxEncrypted {
		return nil, errUserData
	}
	key, err1 := strictBase64(sessionKey)
	first, err2 := strictBase64(iv)
	data, err3 := strictBase64(encryptedData)
	if err1 != nil || err2 != nil || err3 != nil || len(key) != 16 || len(first) != aes.BlockSize ||
		len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, errUserData
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, errUserData
	}
	cipher.NewCBCDecrypter(block, first).CryptBlocks(data, data)
	plain, ok := unpad(data, aes.BlockSize)
	if !ok {
		return nil, errUserData
	}
	return plain, nil
}

// readMarked reads the decrypted JSON, which must be of this app and fresh.
func (c *Client) readMarked(plain []byte) (map[string]any, time.Time, error) {
	fields, err := parseJSON(plain)
	if err != nil {
		return nil, time.Time{}, errUserData // a wrong key that happened to leave a good padding
	}
	mark, _ := fields["watermark"].(map[string]any)
	seconds, ok := whole(mark["timestamp"])
	if !ok || scalar(mark["appid"]) != c.appID {
		return nil, time.Time{}, refuse(ErrWatermark, "it is not of this app")
	}
	at := time.Unix(seconds, 0)
	switch age := c.now().Sub(at); {
	case age > watermarkAge:
		return nil, time.Time{}, refuse(ErrWatermark, "older than 5 minutes")
	case age < -watermarkSkew:
		return nil, time.Time{}, refuse(ErrWatermark, "more than a minute in the future")
	}
	return fields, at, nil
}

func (c *Client) readUserData(plain []byte) (UserData, error) {
	fields, at, err := c.readMarked(plain)
	if err != nil {
		return UserData{}, err
	}
	return UserData{
		OpenID: scalar(fields["openId"]), UnionID: scalar(fields["unionId"]),
		Nickname: scalar(fields["nickName"]), Avatar: scalar(fields["avatarUrl"]),
		PhoneNumber: scalar(fields["phoneNumber"]), PurePhoneNumber: scalar(fields["purePhoneNumber"]),
		CountryCode: scalar(fields["countryCode"]), At: at,
	}, nil
}

// strictBase64 decodes standard base64 with padding and without line ends: what was lenient here turned
// a "+" that a form had made a space into a strange text.
func strictBase64(s string) ([]byte, error) {
	for i := range len(s) {
		if s[i] == '\n' || s[i] == '\r' {
			return nil, base64.CorruptInputError(i)
		}
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

// unpad takes PKCS#7 padding of 1 to size bytes off, and checks each of them.
func unpad(b []byte, size int) ([]byte, bool) {
	if len(b) == 0 || len(b)%size != 0 {
		return nil, false
	}
	n := int(b[len(b)-1])
	if n < 1 || n > size || n > len(b) {
		return nil, false
	}
	for _, p := range b[len(b)-n:] {
		if int(p) != n {
			return nil, false
		}
	}
	return b[:len(b)-n], true
}

// pad adds PKCS#7 padding.
func pad(b []byte, size int) []byte {
	n := size - len(b)%size
	for range n {
		b = append(b, byte(n))
	}
	return b
}
