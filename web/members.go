package web

import (
	"bytes"
	"encoding/json"
	"iter"
)

// members walks the names and values of a JSON object as they are written, repeated ones too. It ends at the first
// thing that is no member; what it gave until then is right.
func members(text []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		d := json.NewDecoder(bytes.NewReader(text))
		if open, err := d.Token(); err != nil || open != json.Delim('{') {
			return
		}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return
			}
			var value json.RawMessage
			if err := d.Decode(&value); err != nil || !yield(name.(string), value) {
				return
			}
		}
	}
}
