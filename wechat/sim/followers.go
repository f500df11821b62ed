package sim

import (
	"slices"
	"time"
)

const followersAPage = 10_000

// followers is GET /cgi-bin/user/get of the official account: openids, a page after next_openid.
func (s *Sim) followers(c apiCall) (any, *apiError) {
	next := c.r.URL.Query().Get("next_openid")
	s.mu.Lock()
	defer s.mu.Unlock()
	if next != "" && s.fans[next] == nil {
		return nil, apiErr(40003, "invalid openid")
	}
	all := []string{}
	for openid, u := range s.fans {
		if !u.followedAt.IsZero() {
			all = append(all, openid)
		}
	}
	slices.Sort(all)
	from := 0
	if next != "" {
		from, _ = slices.BinarySearch(all, next+"\x00")
	}
	page := all[from:min(len(all), from+followersAPage)]
	answer := map[string]any{"total": len(all), "count": len(page), "next_openid": ""}
	if len(page) > 0 {
		answer["data"], answer["next_openid"] = map[string]any{"openid": page}, page[len(page)-1]
	}
	return answer, nil
}

// followerInfos is POST /cgi-bin/user/info/batchget: up to 100 at once.
func (s *Sim) followerInfos(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	list := f.list("user_list", 1)
	if f.fault() != nil || len(list) > 100 {
		return nil, apiErr(40097, "invalid args: user_list")
	}
	infos := []any{}
	for _, one := range list {
		openid, lang := one.text("openid", true, 128), one.text("lang", false, 16)
		if f.fault() != nil {
			return nil, errFormat
		}
		info, e := s.follower(c.from, openid, lang)
		if e != nil {
			return nil, e
		}
		infos = append(infos, info)
	}
	return map[string]any{"user_info_list": infos}, nil
}

const (
	clearsAMonth = 10
	monthOfClear = 30 * 24 * time.Hour
)

// clearQuota is POST /cgi-bin/clear_quota: ten times a month, all daily counts begin anew.
func (s *Sim) clearQuota(c apiCall) (any, *apiError) {
	f, err := parseFields(c.body)
	if err != nil {
		return nil, errFormat
	}
	if f.text("appid", false, 32) != c.from.appID {
		return nil, apiErr(40013, "invalid appid")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.from.cleared.allow(s.opts.Now(), monthOfClear, clearsAMonth) {
		return nil, apiErr(48006, "forbid to clear quota because of reaching the limit")
	}
	c.from.stable.day, c.from.classic.day, s.linkDay = window{}, window{}, window{}
	return apiError{0, "ok"}, nil
}
