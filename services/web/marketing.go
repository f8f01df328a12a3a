package web

import (
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	eventv1 "github.com/parleyhq/parley/proto/gen/parley/event/v1"
)

// Marketing channels. They are decided in this order, the first that fits:
//
//  1. The campaign's medium, by what marketers agree on (cpc, email, social, …);
//     paid on a social network is paid_social.
//  2. The click id: gclid, gbraid, wbraid and msclkid are paid_search. fbclid
//     and ttclid are social: the networks put them on every link, paid or not.
//  3. The campaign's source, by its name or host: a search engine is
//     organic_search, a network social, a mail reader email; `direct` is
//     direct; any other source is other.
//  4. Without a campaign the referrer's host, likewise; any other host is
//     referral.
//
// A page view without campaign, click id and external referrer makes no
// touchpoint: whether it begins a direct visit or goes on with one is the
// journey's to say, which knows the page views before.
const (
	channelDirect        = "direct"
	channelOrganicSearch = "organic_search"
	channelPaidSearch    = "paid_search"
	channelEmail         = "email"
	channelSocial        = "social"
	channelPaidSocial    = "paid_social"
	channelDisplay       = "display"
	channelVideo         = "video"
	channelAudio         = "audio"
	channelAffiliate     = "affiliate"
	channelReferral      = "referral"
	channelSMS           = "sms"
	channelPush          = "push"
	channelOther         = "other"
)

// byMedium are the media of campaigns that say their channel. In lower case,
// underscores and spaces as hyphens.
var byMedium = map[string]string{
	"cpc": channelPaidSearch, "ppc": channelPaidSearch, "sem": channelPaidSearch, "paidsearch": channelPaidSearch,
	"paid-search": channelPaidSearch, "retargeting": channelDisplay, "paid": channelPaidSearch,
	"paid-social": channelPaidSocial, "paidsocial": channelPaidSocial, "social-paid": channelPaidSocial, "cpc-social": channelPaidSocial,
	"display": channelDisplay, "banner": channelDisplay, "cpm": channelDisplay, "interstitial": channelDisplay,
	"expandable": channelDisplay, "programmatic": channelDisplay,
	"email": channelEmail, "e-mail": channelEmail, "mail": channelEmail, "newsletter": channelEmail,
	"social": channelSocial, "social-network": channelSocial, "social-media": channelSocial, "sm": channelSocial,
	"organic-social": channelSocial, "organic": channelOrganicSearch, "organic-search": channelOrganicSearch,
	"affiliate": channelAffiliate, "affiliates": channelAffiliate,
	"referral": channelReferral, "link": channelReferral,
	"sms": channelSMS, "text": channelSMS,
	"push": channelPush, "notification": channelPush, "mobile": channelPush, "app-push": channelPush, "web-push": channelPush,
	"video": channelVideo, "audio": channelAudio, "podcast": channelAudio,
	"none": channelDirect, "(none)": channelDirect, "direct": channelDirect,
}

// bySite are sites by the name that people and domains have in common: the
// label before the public suffix.
var bySite = map[string]string{
	"google": channelOrganicSearch, "bing": channelOrganicSearch, "duckduckgo": channelOrganicSearch,
	"yahoo": channelOrganicSearch, "baidu": channelOrganicSearch, "yandex": channelOrganicSearch,
	"ecosia": channelOrganicSearch, "qwant": channelOrganicSearch, "startpage": channelOrganicSearch,
	"naver": channelOrganicSearch, "seznam": channelOrganicSearch, "kagi": channelOrganicSearch,
	"ask": channelOrganicSearch, "sogou": channelOrganicSearch, "mojeek": channelOrganicSearch,
	"facebook": channelSocial, "fb": channelSocial, "instagram": channelSocial, "ig": channelSocial,
	"twitter": channelSocial, "x": channelSocial, "t": channelSocial, "linkedin": channelSocial, "lnkd": channelSocial,
	"tiktok": channelSocial, "pinterest": channelSocial, "reddit": channelSocial, "youtube": channelSocial,
	"snapchat": channelSocial, "threads": channelSocial, "xing": channelSocial, "vk": channelSocial,
	"tumblr": channelSocial, "bsky": channelSocial, "whatsapp": channelSocial, "telegram": channelSocial,
	"email": channelEmail, "newsletter": channelEmail, "mailchimp": channelEmail, "klaviyo": channelEmail,
	"direct": channelDirect, "(direct)": channelDirect,
}

// byHost are hosts that are another channel than the rest of their site.
var byHost = map[string]string{
	"mail.google.com": channelEmail, "mail.yahoo.com": channelEmail, "outlook.live.com": channelEmail,
	"outlook.office.com": channelEmail, "outlook.office365.com": channelEmail, "mail.proton.me": channelEmail,
	"com.google.android.gm": channelEmail, "search.brave.com": channelOrganicSearch, "news.ycombinator.com": channelSocial,
	"pay.google.com": channelReferral, "accounts.google.com": channelReferral, "docs.google.com": channelReferral,
}

// oneLabelSites are names of bySite that are common words as a host: the whole
// domain must fit.
var oneLabelSites = map[string]string{"t": "t.co", "x": "x.com", "fb": "fb.com", "ask": "ask.com", "threads": "threads.net", "vk": "vk.com", "direct": "", "email": "", "newsletter": ""}

// clickKinds are the click ids that are read, the surest first.
var clickKinds = [...]string{"gclid", "gbraid", "wbraid", "msclkid", "fbclid", "ttclid"}

func clickKind(name string) string {
	for _, k := range clickKinds {
		if strings.EqualFold(name, k) {
			return k
		}
	}
	return ""
}

// prefer takes a click id if it is a surer one than what is there.
func (c *clickID) prefer(kind, value string) {
	if c.kind == "" || clickRank(kind) < clickRank(c.kind) {
		c.kind, c.value = kind, value
	}
}

func clickRank(kind string) int {
	for i, k := range clickKinds {
		if k == kind {
			return i
		}
	}
	return len(clickKinds)
}

// ofAd says that only advertisements carry this click id.
func (c *clickID) ofAd() bool { return c.kind != "" && c.kind != "fbclid" && c.kind != "ttclid" }

func marketingChannel(c *campaign, click *clickID, referrerHost string) string {
	medium := strings.NewReplacer("_", "-", " ", "-").Replace(strings.ToLower(strings.TrimSpace(c.medium)))
	source := strings.ToLower(strings.TrimSpace(c.source))
	if channel, ok := byMedium[medium]; ok {
		if channel == channelPaidSearch && siteChannel(source) == channelSocial {
			return channelPaidSocial
		}
		// The source decides where it says more than "none".
		if channel != channelDirect || source == "" || siteChannel(source) == channelDirect {
			return channel
		}
	}
	switch {
	case click.ofAd():
		return channelPaidSearch
	case click.kind != "":
		return channelSocial
	}
	if source != "" {
		if channel := siteChannel(source); channel != "" {
			return channel
		}
		return channelOther
	}
	if !c.isZero() {
		return channelOther
	}
	if channel := siteChannel(referrerHost); channel != "" {
		return channel
	}
	return channelReferral
}

// siteChannel is the channel of a host, or of a site by its name.
func siteChannel(site string) string {
	if channel, ok := byHost[site]; ok {
		return channel
	}
	if !strings.Contains(site, ".") {
		return bySite[site]
	}
	domain := registrable(site)
	label, _, _ := strings.Cut(domain, ".")
	if whole, ok := oneLabelSites[label]; ok && whole != domain {
		return ""
	}
	return bySite[label]
}

// registrable is the part of a host that somebody registered: shop.example.co.uk
// gives example.co.uk. A host without a public suffix is itself.
func registrable(host string) string {
	if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return domain
	}
	return host
}

// hostOf is the host of a URL in lower case, without port; of an app's
// (android-app://com.google.android.gm) its name.
func hostOf(s string) string {
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}

// touchpoint is what brought the visitor, where this call is what tells:
// page and screen calls, and track calls that come from no page (in a browser
// the page call has told it already). Nil for none.
func (mp *Mapper) touchpoint(m *message, page *pageContext) *eventv1.TouchpointRecorded {
	switch m.kind {
	case kindPage, kindScreen:
	case kindTrack:
		if m.context.page != (pageContext{}) {
			return nil
		}
	case kindUnknown, kindIdentify, kindGroup, kindAlias, kindBatch:
		return nil
	}
	c, click := m.context.campaign, m.context.click
	readQuery(page.query(), &c, &click)
	referrer := mp.externalReferrer(m, page)
	if c.isZero() && click.kind == "" && referrer == "" {
		return nil
	}
	t := &eventv1.TouchpointRecorded{
		Kind:             eventv1.TouchpointKind_TOUCHPOINT_KIND_VISIT,
		MarketingChannel: marketingChannel(&c, &click, referrer),
		Campaign:         cut(c.name, 256),
		Source:           cut(c.source, 256),
		Medium:           cut(c.medium, 256),
		Term:             cut(c.term, 512),
		Content:          cut(c.content, 512),
		CampaignId:       cut(c.id, 256),
		ClickIdKind:      click.kind,
		ClickId:          cut(click.value, 1024),
		ReferrerHost:     cut(referrer, 255),
		LandingPath:      cut(page.pathOf(), 2048),
	}
	if click.ofAd() {
		t.Kind = eventv1.TouchpointKind_TOUCHPOINT_KIND_CLICK
	}
	return t
}

// externalReferrer is the host of the page before, where it is another site's.
// Without a URL of the page itself nobody can tell.
func (mp *Mapper) externalReferrer(m *message, page *pageContext) string {
	referrer, own := hostOf(page.referrer), hostOf(page.url)
	if m.kind == kindScreen && referrer == "" {
		// An app has no pages of its own to come from.
		referrer, own = hostOf(m.context.referrerLink), "app"
	}
	if referrer == "" || own == "" || referrer == own {
		return ""
	}
	domain := registrable(referrer)
	if domain == registrable(own) {
		return ""
	}
	for _, ignored := range mp.ignored {
		if referrer == ignored || strings.HasSuffix(referrer, "."+ignored) {
			return ""
		}
	}
	return referrer
}

// readQuery takes from a page's query what the context does not say.
func readQuery(query string, c *campaign, click *clickID) {
	if !strings.Contains(query, "utm_") && !strings.Contains(query, "clid") && !strings.Contains(query, "braid") && !strings.Contains(query, "clkid") {
		return
	}
	said := !c.isZero()
	for pair := range strings.SplitSeq(query, "&") {
		name, escaped, _ := strings.Cut(pair, "=")
		if escaped == "" {
			continue
		}
		value, err := url.QueryUnescape(escaped)
		if err != nil {
			value = escaped
		}
		if k := clickKind(name); k != "" {
			click.prefer(k, value)
			continue
		}
		if said {
			continue
		}
		switch name {
		case "utm_id":
			c.id = value
		case "utm_campaign":
			c.name = value
		case "utm_source":
			c.source = value
		case "utm_medium":
			c.medium = value
		case "utm_term":
			c.term = value
		case "utm_content":
			c.content = value
		default:
		}
	}
}
