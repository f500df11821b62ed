package jobs

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a small image has no zones of its own

	"wxhub/store"
	"wxhub/wechat"
)

// A FallbackRule says how mail of an action is told to somebody who is away. The first rule that fits counts.
type FallbackRule struct {
	Action    string             `koanf:"action" json:"action" minLength:"1" maxLength:"128" doc:"The mail's action; order.* fits all that begin so" example:"order.paid"`
	After     int                `koanf:"after" json:"after" minimum:"1" maximum:"604800" doc:"seconds: so long unacknowledged, and without an open socket" example:"60"`
	Within    int                `koanf:"within" json:"within,omitempty" minimum:"0" maximum:"2592000" doc:"seconds after it was stored; older mail only waits. 0 or absent: a day"`
	Quiet     string             `koanf:"quiet" json:"quiet,omitempty" maxLength:"11" doc:"Hours in which nobody is disturbed; what falls into them is sent at their end" example:"22:00-08:00"`
	Zone      string             `koanf:"zone" json:"zone,omitempty" maxLength:"64" doc:"Time zone of quiet hours and times; absent: Beijing" example:"Asia/Shanghai"`
	Custom    *CustomFallback    `koanf:"custom" json:"custom,omitempty" doc:"Tried first: a customer-service message, if WeChat takes one"`
	Subscribe *SubscribeFallback `koanf:"subscribe" json:"subscribe,omitempty" doc:"Tried next: a subscribe message, if the user granted one"`
}

// A CustomFallback is a customer-service message with places: {description}, {total|yuan}, {at|time}.
type CustomFallback struct {
	Text string        `koanf:"text" json:"text,omitempty" maxLength:"2048"`
	Link *LinkFallback `koanf:"link" json:"link,omitempty" doc:"In place of text"`
	Card *CardFallback `koanf:"card" json:"card,omitempty" doc:"In place of text"`
}

// A LinkFallback opens a web page.
type LinkFallback struct {
	Title       string `koanf:"title" json:"title" minLength:"1" maxLength:"512"`
	Description string `koanf:"description" json:"description,omitempty" maxLength:"1024"`
	URL         string `koanf:"url" json:"url" minLength:"1" maxLength:"1024"`
	ThumbURL    string `koanf:"thumb_url" json:"thumbUrl,omitempty" maxLength:"1024"`
}

// A CardFallback opens a page of the mini-program.
type CardFallback struct {
	Title        string `koanf:"title" json:"title" minLength:"1" maxLength:"512"`
	Page         string `koanf:"page" json:"page" minLength:"1" maxLength:"1024"`
	ThumbMediaID string `koanf:"thumb_media_id" json:"thumbMediaId" minLength:"1" maxLength:"128" doc:"An uploaded picture"`
}

// A SubscribeFallback is a subscribe message: which template, and what stands in its fields.
type SubscribeFallback struct {
	Template string            `koanf:"template" json:"template" minLength:"1" maxLength:"128"`
	Page     string            `koanf:"page" json:"page,omitempty" maxLength:"1024" doc:"Where a tap leads; may have places too"`
	State    string            `koanf:"state" json:"state,omitempty" enum:"developer,trial,formal" doc:"Which version of the mini-program opens; absent: formal"`
	Data     map[string]string `koanf:"data" json:"data" doc:"By field of the template; values have places" example:"{\"thing1\":\"{description}\",\"amount2\":\"{total|yuan}元\"}"`
}

const (
	fallbackWithin = 24 * time.Hour // older news disturb more than they help
	maxFallbacks   = 200            // rules
	maxFields      = 20             // of a template
)

// beijing needs no time zone database.
var beijing = time.FixedZone("UTC+8", 8*60*60)

// A fallbackRule is a FallbackRule that was found good.
type fallbackRule struct {
	FallbackRule
	after, within time.Duration
	quiet         quietHours
	zone          *time.Location
	words         map[string]words // by place in the rule
}

// CheckFallbacks names every rule that cannot be followed, and why.
func CheckFallbacks(rules []FallbackRule) error {
	_, err := readFallbacks(rules)
	return err
}

func readFallbacks(rules []FallbackRule) (read []*fallbackRule, err error) {
	if len(rules) > maxFallbacks {
		return nil, fmt.Errorf("there are more than %d rules", maxFallbacks)
	}
	var bad []error
	for i, r := range rules {
		one, err := readFallback(r)
		if all, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // as readFallback joined them
			for _, err := range all.Unwrap() {
				bad = append(bad, fmt.Errorf("rule %d (%.40s): %w", i+1, r.Action, err))
			}
		}
		read = append(read, one)
	}
	return read, errors.Join(bad...)
}

var (
	fallbackActions = regexp.MustCompile(`^[^\x00-\x1f*]{0,127}(\*|[^\x00-\x1f*])$`)
	templateFields  = regexp.MustCompile(`^[a-z_]{1,32}[0-9]{1,3}$`)
)

func readFallback(r FallbackRule) (*fallbackRule, error) {
	one := &fallbackRule{FallbackRule: r, zone: beijing, words: make(map[string]words),
		after: time.Duration(r.After) * time.Second, within: time.Duration(r.Within) * time.Second}
	if one.within == 0 {
		one.within = fallbackWithin
	}
	var bad []error
	fault := func(format string, args ...any) { bad = append(bad, fmt.Errorf(format, args...)) }
	read := func(place, text string) {
		w, err := parseWords(text)
		if err != nil {
			fault("%s %w", place, err)
		}
		one.words[place] = w
	}
	if !fallbackActions.MatchString(r.Action) {
		fault("action must be 1 to 128 bytes, with a * only at its end")
	}
	if r.After < 1 || r.After > 7*24*3600 {
		fault("after must be 1 to 604800 seconds")
	}
	if r.Within < 0 || r.Within > 30*24*3600 || one.within < one.after {
		fault("within must be 0 to 2592000 seconds, and not less than after")
	}
	var err error
	if one.quiet, err = readQuiet(r.Quiet); err != nil {
		fault("quiet %w", err)
	}
	if r.Zone != "" {
		if one.zone, err = time.LoadLocation(r.Zone); err != nil || r.Zone == "Local" {
			one.zone = beijing
			fault("zone must be a name like Asia/Shanghai")
		}
	}
	if r.Custom == nil && r.Subscribe == nil {
		fault("name custom, subscribe or both")
	}
	if c := r.Custom; c != nil {
		set := 0
		for _, is := range []bool{c.Text != "", c.Link != nil, c.Card != nil} {
			if is {
				set++
			}
		}
		if set != 1 {
			fault("custom needs one of text, link and card")
		}
		read("custom.text", c.Text)
		if l := c.Link; l != nil {
			if u, err := url.Parse(strings.NewReplacer("{", "", "}", "", "|", "").Replace(l.URL)); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || l.Title == "" {
				fault("custom.link needs a title, and a url that begins with http:// or https://")
			}
			read("custom.link.title", l.Title)
			read("custom.link.description", l.Description)
			read("custom.link.url", l.URL)
		}
		if k := c.Card; k != nil {
			if k.Title == "" || k.Page == "" || k.ThumbMediaID == "" {
				fault("custom.card needs title, page and thumbMediaId")
			}
			read("custom.card.title", k.Title)
			read("custom.card.page", k.Page)
		}
	}
	if s := r.Subscribe; s != nil {
		if s.Template == "" || len(s.Template) > 128 {
			fault("subscribe.template is missing")
		}
		if !slices.Contains([]string{"", "developer", "trial", "formal"}, s.State) {
			fault("subscribe.state must be developer, trial or formal")
		}
		if len(s.Data) == 0 || len(s.Data) > maxFields {
			fault("subscribe.data needs 1 to %d fields", maxFields)
		}
		read("subscribe.page", s.Page)
		for _, key := range slices.Sorted(maps.Keys(s.Data)) {
			if !templateFields.MatchString(key) {
				fault("subscribe.data: a field is a type with a number, like thing1")
				continue
			}
			read("subscribe.data."+key, s.Data[key])
		}
	}
	return one, errors.Join(bad...)
}

// fits tells whether the rule is about an action.
func (r *fallbackRule) fits(action string) bool {
	beginning, wild := strings.CutSuffix(r.Action, "*")
	if wild {
		return strings.HasPrefix(action, beginning)
	}
	return r.Action == action
}

// custom is the customer-service message about a letter.
func (r *fallbackRule) custom(l store.Letter) (m wechat.CustomMessage) {
	v := valuesOf(l, r.zone)
	say := func(place string, most int) string { return cutText(r.words["custom."+place].say(v), most) }
	switch c := r.Custom; {
	case c.Link != nil:
		m.Link = &wechat.CustomLink{Title: say("link.title", 128), Description: say("link.description", 512),
			URL: say("link.url", 1024), ThumbURL: c.Link.ThumbURL}
	case c.Card != nil:
		m.Card = &wechat.CustomCard{Title: say("card.title", 128), PagePath: say("card.page", 1024), ThumbMediaID: c.Card.ThumbMediaID}
	default:
		m.Text = &wechat.CustomText{Content: say("text", 2048)}
	}
	return m
}

// subscribe is the subscribe message about a letter.
func (r *fallbackRule) subscribe(l store.Letter) wechat.SubscribeMessage {
	v := valuesOf(l, r.zone)
	m := wechat.SubscribeMessage{TemplateID: r.Subscribe.Template, Page: r.words["subscribe.page"].say(v), State: r.Subscribe.State,
		Data: make(map[string]string, len(r.Subscribe.Data))}
	for key := range r.Subscribe.Data {
		m.Data[key] = r.words["subscribe.data."+key].say(v)
	}
	return m
}

// cutText shortens text to at most most bytes of whole characters.
func cutText(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// quietHours are minutes of a day, in a rule's zone; from after to: over midnight. Equal: none.
type quietHours struct{ from, to int }

var quietForm = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-3]):([0-5][0-9])$`)

func readQuiet(text string) (q quietHours, err error) {
	if text == "" {
		return q, nil
	}
	if !quietForm.MatchString(text) {
		return q, errors.New("must look like 22:00-08:00")
	}
	number := func(at int) int { return int(text[at]-'0')*10 + int(text[at+1]-'0') }
	q = quietHours{number(0)*60 + number(3), number(6)*60 + number(9)}
	if q.from == q.to {
		return q, errors.New("must not end when it begins")
	}
	return q, nil
}

// until is when the quiet hours end in which now lies; zero: it lies in none.
func (q quietHours) until(now time.Time, zone *time.Location) time.Time {
	local := now.In(zone)
	minute := local.Hour()*60 + local.Minute()
	within := q.from <= minute && minute < q.to
	if q.from > q.to {
		within = minute >= q.from || minute < q.to
	}
	if q.from == q.to || !within {
		return time.Time{}
	}
	day := local.Day()
	if minute >= q.to {
		day++
	}
	return time.Date(local.Year(), local.Month(), day, q.to/60, q.to%60, 0, 0, zone)
}
