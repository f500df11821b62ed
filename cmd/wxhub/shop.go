package main

import (
	"fmt"
	"net/http"
	"strings"

	"wxhub/web"
)

// An item is a product of the sample shop with what its picture is drawn from.
type item struct {
	id, name, nameEN, text string
	fen                    int64
	sky, ground            string // the picture's background, from top to bottom
	shape                  string // SVG, drawn on 240 × 240
}

// The sample shop. Every picture is drawn here: no file, no network.
var sampleShop = []item{
	{"tea", "明前龙井 50g", "Longjing tea, 50 g", "清明前采摘，豆香清雅", 12800, "#e8f6ea", "#b9e2c0",
		`<path d="M62 104h104v40a44 44 0 0 1-44 44h-16a44 44 0 0 1-44-44z" fill="#fff"/><path d="M166 112h14a22 22 0 0 1 0 44h-16" fill="none" stroke="#fff" stroke-width="10"/><ellipse cx="114" cy="104" rx="52" ry="12" fill="#8cc56b"/><path d="M96 84q-10-14 2-26t0-24M124 84q-10-14 2-26t0-24" fill="none" stroke="#fff" stroke-width="5" stroke-linecap="round" opacity=".8"/><path d="M108 100q10-14 26-10-6 14-26 10z" fill="#4f9a45"/>`},
	{"umbrella", "雨过天青折叠伞", "Sky-blue umbrella", "一键开合，抗风八骨", 8900, "#e6f1fb", "#b5d4f2",
		`<path d="M40 128a80 80 0 0 1 160 0q-13-16-26 0-14-16-28 0-13-16-26 0-13-16-26 0-14-16-28 0-13-16-26 0z" fill="#3d83c9"/><path d="M120 48v-10M120 122v60a14 14 0 0 1-28 0" fill="none" stroke="#2d4f73" stroke-width="8" stroke-linecap="round"/><path d="M120 48q-22 30-26 80M120 48q22 30 26 80" fill="none" stroke="#2f6bab" stroke-width="3"/>`},
	{"mug", "手作粗陶马克杯", "Stoneware mug", "每一只釉色都不同", 6800, "#fbeee3", "#f1cfae",
		`<rect x="66" y="70" width="88" height="110" rx="16" fill="#b9683f"/><path d="M154 92h12a26 26 0 0 1 0 52h-12" fill="none" stroke="#b9683f" stroke-width="14"/><path d="M66 86a16 16 0 0 1 16-16h56a16 16 0 0 1 16 16v26q-22 16-44 0t-44 4z" fill="#f6e7d6"/><circle cx="96" cy="146" r="4" fill="#8f4c2b"/><circle cx="126" cy="158" r="3" fill="#8f4c2b"/><circle cx="112" cy="130" r="3" fill="#8f4c2b"/>`},
	{"lamp", "月亮小夜灯", "Moon night light", "触控调光，暖如月色", 15900, "#2e3563", "#5c4a83",
		`<circle cx="120" cy="106" r="58" fill="#ffe9a8"/><circle cx="100" cy="92" r="10" fill="#f5d787"/><circle cx="138" cy="120" r="14" fill="#f5d787"/><circle cx="128" cy="78" r="6" fill="#f5d787"/><path d="M84 178h72l10 16H74z" fill="#c69463"/><circle cx="52" cy="56" r="3" fill="#fff"/><circle cx="196" cy="74" r="3" fill="#fff"/><circle cx="184" cy="40" r="2" fill="#fff"/><circle cx="40" cy="130" r="2" fill="#fff"/>`},
	{"scarf", "羊绒格纹围巾", "Cashmere scarf", "四季皆宜的柔软", 29900, "#fbe9ec", "#f0bcc6",
		`<path d="M58 76q62 44 124 0l10 28q-72 44-144 0z" fill="#b33951"/><path d="M86 112l44 12-16 76H74z" fill="#c94f66"/><path d="M82 136l42 11M78 160l42 11M104 118l-16 80" stroke="#fbe9ec" stroke-width="4"/><path d="M74 200v14M84 200v14M94 200v14M104 200v14M114 200v14" stroke="#b33951" stroke-width="4"/>`},
	{"notebook", "布面手账本", "Cloth-bound notebook", "180° 平摊，道林纸", 4500, "#eef0fb", "#c3caf0",
		`<rect x="66" y="52" width="112" height="140" rx="8" fill="#4a58a8"/><rect x="66" y="52" width="18" height="140" rx="6" fill="#37438a"/><rect x="104" y="80" width="56" height="30" rx="4" fill="#eef0fb"/><path d="M112 90h40M112 100h26" stroke="#4a58a8" stroke-width="4" stroke-linecap="round"/><path d="M150 192v22l-8-7-8 7v-22" fill="#e8a13a"/>`},
	{"plant", "桌面多肉盆栽", "Desk succulent", "半月浇一次水就好", 3900, "#e9f7f1", "#b7e3d0",
		`<path d="M78 146h84l-10 50H88z" fill="#d98a5b"/><rect x="70" y="132" width="100" height="20" rx="6" fill="#e79c6d"/><g fill="#4fae84"><ellipse cx="120" cy="92" rx="14" ry="40"/><ellipse cx="92" cy="106" rx="13" ry="34" transform="rotate(-34 92 106)"/><ellipse cx="148" cy="106" rx="13" ry="34" transform="rotate(34 148 106)"/></g><g fill="#6cc79d"><ellipse cx="106" cy="104" rx="10" ry="30" transform="rotate(-16 106 104)"/><ellipse cx="134" cy="104" rx="10" ry="30" transform="rotate(16 134 104)"/></g><circle cx="120" cy="56" r="7" fill="#f2728c"/>`},
	{"headphones", "轻音头戴耳机", "Light headphones", "静下来，只听见音乐", 49900, "#f0ecfa", "#cfc3ee",
		`<path d="M62 140v-16a58 58 0 0 1 116 0v16" fill="none" stroke="#4b3f72" stroke-width="12" stroke-linecap="round"/><rect x="46" y="130" width="34" height="58" rx="16" fill="#7a68b8"/><rect x="160" y="130" width="34" height="58" rx="16" fill="#7a68b8"/><rect x="70" y="136" width="14" height="46" rx="7" fill="#4b3f72"/><rect x="156" y="136" width="14" height="46" rx="7" fill="#4b3f72"/>`},
	{"bag", "帆布通勤包", "Canvas tote", "装得下电脑和一天", 11900, "#fdf5e2", "#f3dda6",
		`<path d="M60 96h120l12 100H48z" fill="#e3b04b"/><path d="M88 112V84a32 32 0 0 1 64 0v28" fill="none" stroke="#8a5a1f" stroke-width="8" stroke-linecap="round"/><circle cx="88" cy="116" r="5" fill="#8a5a1f"/><circle cx="152" cy="116" r="5" fill="#8a5a1f"/><path d="M96 150h48v22a10 10 0 0 1-10 10h-28a10 10 0 0 1-10-10z" fill="#f3dda6"/>`},
	{"candle", "桂花香薰蜡烛", "Osmanthus candle", "点一盏秋天", 7900, "#fff1e6", "#fbd3b0",
		`<rect x="74" y="104" width="92" height="88" rx="12" fill="#fff" opacity=".9"/><rect x="74" y="120" width="92" height="72" rx="12" fill="#f7c873"/><path d="M120 104V90" stroke="#5b4636" stroke-width="4"/><path d="M120 92q-16-18 0-42 16 24 0 42z" fill="#ff9d3c"/><path d="M120 90q-7-9 0-22 7 13 0 22z" fill="#ffe28a"/><rect x="96" y="142" width="48" height="26" rx="4" fill="#fff8ec"/><circle cx="110" cy="155" r="4" fill="#f0a830"/><circle cx="120" cy="151" r="4" fill="#f0a830"/><circle cx="130" cy="156" r="4" fill="#f0a830"/>`},
	{"camera", "一次成像相机", "Instant camera", "按下去，就留住了", 58800, "#e6f7f8", "#aee0e4",
		`<rect x="50" y="82" width="140" height="94" rx="18" fill="#fdfdfd"/><rect x="50" y="140" width="140" height="36" rx="14" fill="#39a0a8"/><circle cx="120" cy="126" r="36" fill="#2d3b45"/><circle cx="120" cy="126" r="22" fill="#5e7f8e"/><circle cx="112" cy="118" r="7" fill="#cfe7ee"/><rect x="64" y="68" width="34" height="16" rx="6" fill="#39a0a8"/><circle cx="172" cy="102" r="7" fill="#f2b134"/><rect x="78" y="176" width="84" height="36" fill="#fff"/><rect x="86" y="180" width="68" height="22" fill="#ffd9a0"/>`},
	{"mooncake", "流心月饼礼盒", "Mooncake gift box", "六枚，四种口味", 16800, "#fdeceb", "#f4b8ae",
		`<circle cx="120" cy="122" r="64" fill="#d98c3f"/><path d="M120 58a16 16 0 0 1 22 6 16 16 0 0 1 22 10 16 16 0 0 1 14 20 16 16 0 0 1 6 24 16 16 0 0 1-6 24 16 16 0 0 1-14 20 16 16 0 0 1-22 12 16 16 0 0 1-22 8 16 16 0 0 1-24-6 16 16 0 0 1-22-12 16 16 0 0 1-14-22 16 16 0 0 1-6-24 16 16 0 0 1 6-22 16 16 0 0 1 14-20 16 16 0 0 1 22-12 16 16 0 0 1 24-6z" fill="#e7a356"/><circle cx="120" cy="122" r="42" fill="none" stroke="#c2742b" stroke-width="5"/><path d="M120 92q12 18 0 30-12-12 0-30zM120 152q-12-18 0-30 12 12 0 30zM90 122q18-12 30 0-12 12-30 0zM150 122q-18 12-30 0 12-12 30 0z" fill="#c2742b"/>`},
}

const picturePath = "/pictures/"

// demoProducts is the catalogue of the sample shop.
func demoProducts() (list []web.Product) {
	for _, it := range sampleShop {
		list = append(list, web.Product{
			ID: it.id, Name: it.name, NameEN: it.nameEN, Description: it.text, PriceFen: it.fen,
			Picture: picturePath + it.id + ".svg",
		})
	}
	return list
}

// demoReplies answer the first thing a visitor types. The official account has rules to begin with.
func demoReplies() []web.Reply {
	return []web.Reply{
		{Event: "user_enter_tempsession", Account: "mini", Text: "您好，想问什么？Hello, what would you like to know?"},
		{Keyword: "人工", Transfer: true},
		{Keyword: "发货", Text: "现在下单，今天 17 点前发出，明后天就能到。"},
		{Keyword: "ship", Text: "Order now and it leaves today before 5 pm."},
		{Default: true, Account: "mini", Text: "收到，客服小微马上来。Got it, we will be right with you."},
	}
}

// servePicture draws one product.
func servePicture(w http.ResponseWriter, r *http.Request) {
	id, _ := strings.CutSuffix(r.PathValue("name"), ".svg")
	for _, it := range sampleShop {
		if it.id != id {
			continue
		}
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 240"><defs><linearGradient id="g" x2="0" y2="1"><stop stop-color="%s"/><stop offset="1" stop-color="%s"/></linearGradient></defs><rect width="240" height="240" fill="url(#g)"/>%s</svg>`,
			it.sky, it.ground, it.shape)
		return
	}
	http.NotFound(w, r)
}
