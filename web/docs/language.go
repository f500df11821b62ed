package docs

import (
	"net/http"

	"golang.org/x/text/language"
)

// The languages of every page. Chinese stands first: who does not say gets it.
var languages = []string{"zh", "en"}

var matcher = language.NewMatcher([]language.Tag{language.Chinese, language.English})

const languageCookie = "wxhub_lang" // the reader's own choice; a year

func otherLanguage(lang string) string {
	if lang == "zh" {
		return "en"
	}
	return "zh"
}

// languageOf tells in which language to answer: ?lang=, else the reader's earlier choice, else what the browser
// accepts. A browser that accepts neither gets English, a client that says nothing Chinese.
func languageOf(r *http.Request) string {
	if lang := r.URL.Query().Get("lang"); lang == "zh" || lang == "en" {
		return lang
	}
	if c, err := r.Cookie(languageCookie); err == nil && (c.Value == "zh" || c.Value == "en") {
		return c.Value
	}
	accept := r.Header.Get("Accept-Language")
	if accept == "" || accept == "*" {
		return "zh"
	}
	tags, _, err := language.ParseAcceptLanguage(accept)
	if err != nil || len(tags) == 0 {
		return "en"
	}
	if _, i, confidence := matcher.Match(tags...); confidence > language.No {
		return languages[i]
	}
	return "en"
}

// rememberLanguage keeps the choice of a reader who went to a page of this language.
func rememberLanguage(w http.ResponseWriter, r *http.Request, lang string) {
	if c, err := r.Cookie(languageCookie); err == nil && c.Value == lang {
		return
	}
	http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: lang, Path: "/", MaxAge: 365 * 24 * 3600,
		SameSite: http.SameSiteLaxMode, HttpOnly: true, Secure: r.TLS != nil})
}

// words are the interface's texts in one language, by name.
type words map[string]string

var interfaceWords = map[string]words{
	"zh": {
		"htmlLang":    "zh-CN",
		"skip":        "跳到正文",
		"switch":      "English",
		"docs":        "文档",
		"docsLead":    "都在程序里，断网也能看。",
		"api":         "接口参考",
		"apiLead":     "全部 HTTP 接口，可直接在页面上试用",
		"events":      "事件文档（AsyncAPI）",
		"home":        "首页",
		"onPage":      "本页内容",
		"guides":      "全部文档",
		"notFound":    "没有这一页",
		"notFoundGo":  "地址可能写错了。下面是全部文档：",
		"markdown":    "Markdown 原文",
		"next":        "下一篇",
		"copy":        "复制",
		"copied":      "已复制",
		"noScript":    "接口参考需要 JavaScript。不用脚本也可以直接读取",
		"apiMissing":  "读不到 /api/openapi.json：请确认 wxhub 正在运行。",
		"tagline":     "有人付款，每部手机立刻看到",
		"what":        "wxhub 是微信小程序的实时消息中心：一笔支付、一句客服留言、一条公告，片刻之间出现在该看到它的每一部手机上；不在线的人，回来时一条不少、一条不重。",
		"demoBadge":   "演示模式：微信是模拟的，钱也是",
		"openPhone":   "打开演示手机",
		"phoneLead":   "两部手机并排：在一部上购买、问客服，在另一部上看通知",
		"read":        "快速开始",
		"docsCard":    "快速开始、协议、支付、消息推送、运维、错误与排查",
		"health":      "健康检查",
		"healthLead":  "/healthz 表示进程活着，/readyz 表示可以接流量",
		"console":     "管理后台",
		"consoleLead": "实时数据、房间、广播、订单与退款、客服、用户",
		"metrics":     "监控指标",
		"metricsLead": "Prometheus 格式的 /metrics",
		"sim":         "微信模拟器",
		"simLead":     "演示里扮演微信的那台服务器：它知道的用户、订单和推送",
		"try":         "三十秒试一试",
		"try1":        "打开演示手机：两部手机，各已登录一个人。",
		"try2":        "在一部手机上买点东西，两部手机同时弹出通知。",
		"try3":        "或者不动手机，在另一个终端里让微信通知一笔付款：",
		"try4":        "用后台密钥向所有人说句话（密钥在启动时打印的那几行里）：",
		"tryProd":     "向房间里的每个人说句话（密钥来自 WXHUB_API_KEYS）：",
		"say":         "说一句话",
		"admin":       "管理员",
		"adminLead":   "密码在启动时打印在终端里",
		"ready":       "可以接流量",
		"notReady":    "还没准备好",
		"checking":    "正在检查…",
		"payload":     "今晚八点，全场半价",
		"buyer":       "小**",
		"bought":      "刚买了一杯拿铁",
		"phoneA":      "付款的手机",
		"phoneB":      "别的手机",
		"paid":        "已支付 ¥18.00",
		"now":         "刚刚",
	},
	"en": {
		"htmlLang":    "en",
		"skip":        "Skip to the text",
		"switch":      "中文",
		"docs":        "Documents",
		"docsLead":    "All of it is inside the program and works without a network.",
		"api":         "API reference",
		"apiLead":     "Every HTTP call, to be tried out on the page",
		"events":      "Events (AsyncAPI)",
		"home":        "Home",
		"onPage":      "On this page",
		"guides":      "All documents",
		"notFound":    "There is no such page",
		"notFoundGo":  "The address may be misspelt. Here is everything there is:",
		"markdown":    "Markdown source",
		"next":        "Next",
		"copy":        "Copy",
		"copied":      "Copied",
		"noScript":    "The reference needs JavaScript. Without it, read",
		"apiMissing":  "/api/openapi.json could not be read: is wxhub running?",
		"tagline":     "Somebody pays, and every phone knows",
		"what":        "wxhub is a real-time hub for WeChat mini-programs: a payment, a customer's question or an announcement appears at once on every phone that should see it, and whoever was away gets all of it, once, on coming back.",
		"demoBadge":   "Demo: WeChat is simulated, and so is the money",
		"openPhone":   "Open the demo phone",
		"phoneLead":   "Two phones side by side: buy and ask the shop on one, watch the notices on the other",
		"read":        "Quick start",
		"docsCard":    "Quick start, protocol, payment, message push, operation, errors and troubles",
		"health":      "Health",
		"healthLead":  "/healthz says alive, /readyz says ready for traffic",
		"console":     "Admin console",
		"consoleLead": "Live figures, rooms, broadcast, orders and refunds, inbox, users",
		"metrics":     "Metrics",
		"metricsLead": "/metrics for Prometheus",
		"sim":         "WeChat simulator",
		"simLead":     "The server that plays WeChat in the demo: the users, orders and pushes that it knows",
		"try":         "Try it in thirty seconds",
		"try1":        "Open the demo phones: there are two, each with somebody logged in.",
		"try2":        "Buy something on one phone: the notice pops up on both.",
		"try3":        "Or leave the phones alone and let WeChat report a payment, in another terminal:",
		"try4":        "Say something to everybody with the API key (it was printed when the demo started):",
		"tryProd":     "Say something to everybody in a room (the key is one of WXHUB_API_KEYS):",
		"say":         "Say something",
		"admin":       "Admin",
		"adminLead":   "the password was printed in the terminal at the start",
		"ready":       "ready for traffic",
		"notReady":    "not ready",
		"checking":    "checking…",
		"payload":     "Half price from eight tonight",
		"buyer":       "L**",
		"bought":      "has just bought a latte",
		"phoneA":      "The phone that pays",
		"phoneB":      "Any other phone",
		"paid":        "Paid ¥18.00",
		"now":         "now",
	},
}
