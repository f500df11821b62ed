package wechat

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
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
// than 5 minutes (ErrDecrypt, ErrWatermark). ErrDecrypt mostly means that the phone has logged in again
// since, so that the session_key is of another session: let it log in and send the data anew.
func (c *Client) DecryptUserData(sessionKey, encryptedData, iv string) (UserData, error) {
	plain, err := openUserData(sessionKey, encryptedData, iv)
	if err != nil {
		return UserData{}, err
	}
	return c.readUserData(plain)
}

// openUserData says nothing of why it failed: the sender could learn the text from the padding.
func openUserData(sessionKey, encryptedData, iv string) ([]byte, error) {
	if len(encryptedData) > maxEncrypted {
		return nil, ErrDecrypt
	}
	key, err1 := strictBase64(sessionKey)
	first, err2 := strictBase64(iv)
	data, err3 := strictBase64(encryptedData)
	if err1 != nil || err2 != nil || err3 != nil || len(key) != 16 || len(first) != aes.BlockSize ||
		len(data) == 0 || len(data)%aes.BlockSize != 0 {
		return nil, ErrDecrypt
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, ErrDecrypt
	}
	cipher.NewCBCDecrypter(block, first).CryptBlocks(data, data)
	plain, ok := unpad(data, aes.BlockSize)
	if !ok {
		return nil, ErrDecrypt
	}
	return plain, nil
}

func (c *Client) readUserData(plain []byte) (UserData, error) {
	fields, err := parseJSON(plain)
	if err != nil {
		return UserData{}, ErrDecrypt // a wrong key that happened to leave a good padding
	}
	mark, _ := fields["watermark"].(map[string]any)
	seconds, ok := whole(mark["timestamp"])
	if !ok || scalar(mark["appid"]) != c.appID {
		return UserData{}, refuse(ErrWatermark, "it is not of this app")
	}
	at := time.Unix(seconds, 0)
	switch age := c.now().Sub(at); {
	case age > watermarkAge:
		return UserData{}, refuse(ErrWatermark, "older than 5 minutes")
	case age < -watermarkSkew:
		return UserData{}, refuse(ErrWatermark, "more than a minute in the future")
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
