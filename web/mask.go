package web

import (
	"strings"
	"unicode"
)

// nameless is what WeChat itself calls a person whose name it does not tell.
const nameless = "微信用户"

// mask makes a name fit for everybody's eyes: its first character and two stars, 张三 → 张**. What is no letter,
// digit or symbol (blanks, controls, direction marks) never comes first, so a name cannot disturb the line that it
// stands in. A name without any is that of 微信用户.
func mask(name string) string {
	visible := func(r rune) bool {
		return r != unicode.ReplacementChar && (unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.So, r))
	}
	at := strings.IndexFunc(name, visible)
	if at < 0 {
		return mask(nameless)
	}
	for _, r := range name[at:] {
		return string(r) + "**"
	}
	return ""
}
