package sim

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	mediaChecksAMinute = 2000
	mediaCheckTakes    = 2 * time.Second // in the simulator's time
	errDownload        = -1008
)

// checkMedia is POST /wxa/media_check_async, version 2: the verdict comes by the event wxa_media_check.
func (s *Sim) checkMedia(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	address, kind, version := f.text("media_url", true, 2048), f.integer("media_type", 0), f.integer("version", 0)
	scene, openid := f.integer("scene", 0), f.text("openid", true, 128)
	if bad := f.fault(); bad != nil {
		return nil, apiErr(47001, "data format error: "+bad.path)
	}
	u, parseErr := url.Parse(address)
	switch {
	case kind != 1 && kind != 2:
		return nil, apiErr(40097, "invalid args: media_type")
	case version != 2 || scene < 1 || scene > 4:
		return nil, apiErr(40129, "invalid scene or version")
	case parseErr != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, apiErr(40097, "invalid args: media_url")
	}
	person, e := s.recentlySeen(openid, &s.mediaChecked, mediaChecksAMinute)
	if e != nil {
		return nil, e
	}
	trace := traceID()
	s.start(func(ctx context.Context) {
		if !wait(ctx, s.scaled(mediaCheckTakes)) {
			return
		}
		if s.mini.url != "" {
			s.push(ctx, person, s.eventOf(s.mini, person, s.mediaVerdict(trace, s.judgeMedia(ctx, u))), s.mini.form())
		}
	})
	return struct {
		apiError
		TraceID string `json:"trace_id"`
	}{apiError{0, "ok"}, trace}, nil
}

func traceID() string {
	return random(lowerHex, 8) + "-" + random(lowerHex, 8) + "-" + random(lowerHex, 8)
}

// mediaJudgement is what became of one picture or recording.
type mediaJudgement struct {
	errcode int
	verdict
}

// judgeMedia fetches what is on this machine, as the platform fetches it; everything else is judged by its
// address alone, because a simulator asks no stranger. The words that risky texts contain make an address risky.
func (s *Sim) judgeMedia(ctx context.Context, u *url.URL) mediaJudgement {
	name, err := url.PathUnescape(u.String())
	if err != nil {
		name = u.String()
	}
	if strings.Contains(name, "missing") || isLoopback(u.Hostname()) && !s.downloads(ctx, u) {
		return mediaJudgement{errcode: errDownload}
	}
	return mediaJudgement{verdict: judge(name)}
}

func (s *Sim) downloads(ctx context.Context, u *url.URL) bool {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxUpload))
	return err == nil && resp.StatusCode == http.StatusOK
}

// mediaVerdict is the event wxa_media_check.
func (s *Sim) mediaVerdict(trace string, j mediaJudgement) event {
	fields := []pushField{{"Event", "wxa_media_check"}, {"appid", s.mini.appID}, {"trace_id", trace}, {"version", 2}}
	if j.errcode != 0 {
		return event{fields: append(fields, pushField{"errcode", j.errcode}, pushField{"errmsg", "download error"})}
	}
	return event{fields: append(fields,
		pushField{"detail", [][]pushField{{{"strategy", "content_model"}, {"errcode", 0}, {"suggest", j.Suggest}, {"label", j.Label}, {"prob", 90}}}},
		pushField{"errcode", 0}, pushField{"errmsg", "ok"},
		pushField{"result", []pushField{{"suggest", j.Suggest}, {"label", j.Label}}})}
}
