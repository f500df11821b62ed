package sim

import (
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

var unicodeEscape = regexp.MustCompile(`\\(\\|u([0-9a-fA-F]{4}))`)

// needlessEscape finds the first \uXXXX of a character that JSON does not force to be escaped.
// U+2028 and U+2029 are allowed, because common encoders always escape them.
func needlessEscape(body []byte) string {
	for _, m := range unicodeEscape.FindAllSubmatch(body, -1) {
		if len(m[2]) == 0 {
			continue // an escaped backslash
		}
		n, err := strconv.ParseUint(string(m[2]), 16, 16)
		r := rune(n)
		if err != nil || r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029 || r == utf8.RuneError {
			continue
		}
		if r >= 0x20 || utf16.IsSurrogate(r) {
			return string(m[0])
		}
	}
	return ""
}
