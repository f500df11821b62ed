package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wxhub/store"
	"wxhub/web/jobs"
)

// FallbackRule says how mail of an action is told to somebody who is away. jobs follows it.
type FallbackRule = jobs.FallbackRule

type fallbacksView struct {
	Rules     []FallbackRule `json:"rules" doc:"In force; the first that fits counts"`
	Saved     bool           `json:"saved" doc:"false: they are those of the settings"`
	Version   int64          `json:"version" doc:"Send it with a change"`
	ChangedBy string         `json:"changedBy,omitempty"`
	ChangedAt int64          `json:"changedAt,omitempty"`
}

type fallbacksRequest struct {
	Rules   []FallbackRule `json:"rules" maxItems:"200"`
	Version int64          `json:"version" minimum:"0" doc:"That was read; another one meanwhile is a conflict"`
}

type dryRunRequest struct {
	User    string          `json:"user" maxLength:"64" pattern:"^[A-Za-z0-9_.-]{1,64}$" patternDescription:"a user id"`
	Action  string          `json:"action" minLength:"1" maxLength:"128" example:"order.paid"`
	Payload json.RawMessage `json:"payload,omitempty" doc:"As the mail would have it"`
	Rule    *FallbackRule   `json:"rule,omitempty" doc:"A draft; absent: the rule in force"`
}

type dryRunView struct {
	Result    string          `json:"result" enum:"online,custom,subscribe,wait,no_rule" doc:"online: the socket takes it, nothing is sent; wait: nothing may be sent, the mail waits"`
	At        int64           `json:"at,omitempty" doc:"milliseconds: when it would be sent"`
	Quiet     bool            `json:"quiet,omitempty" doc:"quiet hours delay it"`
	Reasons   []string        `json:"reasons,omitempty" doc:"why a way is left out: no_quota, no_grant, no_openid, blocked, not_configured, presence_unknown"`
	Online    bool            `json:"online"`
	Replies   int             `json:"replies" doc:"customer-service messages that WeChat still takes"`
	RepliesBy int64           `json:"repliesUntil,omitempty"`
	Grants    int             `json:"grants" doc:"subscribe messages of the rule's template that the user still lets us send"`
	Custom    json.RawMessage `json:"custom,omitempty" doc:"the customer-service message as it would be sent"`
	Subscribe *subscribedView `json:"subscribe,omitempty" doc:"the subscribe message as it would be sent"`
}

type subscribedView struct {
	Template string            `json:"template"`
	Page     string            `json:"page,omitempty"`
	Data     map[string]string `json:"data"`
	Faults   []string          `json:"faults,omitempty" doc:"fields whose values WeChat would refuse"`
}

func (s *Server) routeFallbacks() {
	handle(s, route{
		method: http.MethodGet, path: "/api/admin/fallbacks", access: admins, tag: "admin", summary: "Rules by which mail is told another way",
	}, func(context.Context, *empty) (fallbacksView, error) { return s.viewFallbacks(), nil })
	handle(s, route{
		method: http.MethodPut, path: "/api/admin/fallbacks", access: admins, tag: "admin", summary: "Change the fallback rules, on every node",
		description: "They stand in place of those of the settings until they are deleted.", maxBody: broadcastBytes,
		errors: []int{http.StatusConflict},
	}, func(ctx context.Context, in *body[fallbacksRequest]) (fallbacksView, error) {
		rules := in.Body.Rules
		if rules == nil {
			rules = []FallbackRule{}
		}
		return s.saveFallbacks(ctx, rules, in.Body.Version)
	})
	handle(s, route{
		method: http.MethodDelete, path: "/api/admin/fallbacks", access: admins, tag: "admin", summary: "Go back to the fallback rules of the settings",
	}, func(ctx context.Context, _ *empty) (fallbacksView, error) { return s.saveFallbacks(ctx, nil, -1) })
	handle(s, route{
		method: http.MethodPost, path: "/api/admin/fallbacks/dry-run", access: admins, tag: "admin", summary: "What would become of mail that a user does not acknowledge",
		description: "Nothing is sent and nothing is counted.",
	}, func(ctx context.Context, in *body[dryRunRequest]) (dryRunView, error) { return s.dryRun(ctx, in.Body) })
}

func (s *Server) viewFallbacks() fallbacksView {
	r := s.o.Fallbacks.Rules()
	v := fallbacksView{Rules: r.Rules, Saved: r.Saved, Version: r.Version, ChangedBy: r.By}
	if !r.At.IsZero() {
		v.ChangedAt = r.At.UnixMilli()
	}
	return v
}

func (s *Server) saveFallbacks(ctx context.Context, rules []FallbackRule, version int64) (fallbacksView, error) {
	err := s.o.Fallbacks.Save(ctx, rules, version, requestOf(ctx).who())
	switch {
	case errors.Is(err, jobs.ErrFallbackRule):
		return fallbacksView{}, badRequest("rules: " + err.Error())
	case errors.Is(err, jobs.ErrFallbacksChanged):
		return fallbacksView{}, &Error{Status: http.StatusConflict, Code: "conflict", Message: "the rules were changed meanwhile; read them again", Err: err}
	case err != nil:
		return fallbacksView{}, fmt.Errorf("save: %w", err)
	}
	s.audit(ctx, "fallbacks", fmt.Sprintf("%d rules", len(rules)))
	return s.viewFallbacks(), nil
}

func (s *Server) dryRun(ctx context.Context, in dryRunRequest) (dryRunView, error) {
	appID := s.o.AppID
	if s.o.WeChat == nil {
		appID = ""
	}
	f, err := s.o.Fallbacks.Foresee(ctx, s.o.Hub, appID, jobs.Question{
		User: in.User, Letter: store.Letter{ID: "dry-run", Action: in.Action, Payload: in.Payload}, Rule: in.Rule, Now: time.Now(),
	})
	if errors.Is(err, jobs.ErrFallbackRule) {
		return dryRunView{}, badRequest("rule: " + err.Error())
	}
	if err != nil {
		return dryRunView{}, fmt.Errorf("dry run: %w", err)
	}
	v := dryRunView{Result: f.Result, Quiet: f.Quiet, Reasons: f.No, Online: f.Online, Replies: f.Replies.Left, Grants: f.Grants}
	if !f.At.IsZero() {
		v.At = f.At.UnixMilli()
	}
	if !f.Replies.Until.IsZero() {
		v.RepliesBy = f.Replies.Until.UnixMilli()
	}
	if f.Custom != nil {
		v.Custom = payload(f.Custom)
	}
	if m := f.Subscribe; m != nil {
		v.Subscribe = &subscribedView{m.TemplateID, m.Page, m.Data, f.Faults}
	}
	return v, nil
}
