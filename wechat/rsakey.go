package wechat

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
)

const minKeyBits = 2048

// pemBlock finds the first PEM block; line ends may be real or written as \n, as in a variable.
func pemBlock(text string) (*pem.Block, error) {
	text = strings.TrimSpace(strings.ReplaceAll(text, `\n`, "\n"))
	if text == "" {
		return nil, errors.New("it is missing")
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no PEM text (-----BEGIN …)")
	}
	return block, nil
}

// rsaPrivateKey reads PKCS#8 or PKCS#1. Its errors hold nothing of the key.
func rsaPrivateKey(text string) (*rsa.PrivateKey, error) {
	block, err := pemBlock(text)
	if err != nil {
		return nil, err
	}
	var key *rsa.PrivateKey
	switch block.Type {
	case "PRIVATE KEY":
		if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			key, _ = parsed.(*rsa.PrivateKey)
		}
	case "RSA PRIVATE KEY":
		key, _ = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		return nil, errors.New("not a private key; apiclient_key.pem is wanted")
	}
	if key == nil {
		return nil, errors.New("not an RSA private key")
	}
	if key.N.BitLen() < minKeyBits {
		return nil, errors.New("shorter than 2048 bits")
	}
	return key, nil
}

// rsaPublicKey reads what the merchant console gives as pub_key.pem.
func rsaPublicKey(text string) (*rsa.PublicKey, error) {
	block, err := pemBlock(text)
	if err != nil {
		return nil, err
	}
	var key *rsa.PublicKey
	switch block.Type {
	case "PUBLIC KEY":
		if parsed, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			key, _ = parsed.(*rsa.PublicKey)
		}
	case "RSA PUBLIC KEY":
		key, _ = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		return nil, errors.New("a certificate; public-key mode wants WeChat Pay's pub_key.pem")
	default:
		return nil, errors.New("not a public key; WeChat Pay's pub_key.pem is wanted")
	}
	if key == nil {
		return nil, errors.New("not an RSA public key")
	}
	if key.N.BitLen() < minKeyBits {
		return nil, errors.New("shorter than 2048 bits")
	}
	return key, nil
}
