package web

import (
	"net/netip"
	"net/url"
	"strings"
)

// callContext is what is read of a call's context: where it happened and what
// brought the visitor there. Texts are empty for absent.
type callContext struct {
	ip, userAgent, locale string
	page                  pageContext
	campaign              campaign
	click                 clickID
	// referrerLink is the link that opened an app.
	referrerLink string
	session      string
	app          appContext
	// traits of the person, a JSON object as it came.
	traits string
}

type pageContext struct{ path, url, referrer, search, title string }

type appContext struct{ name, version string }

// campaign has the UTM parameters.
type campaign struct{ id, name, source, medium, term, content string }

func (c campaign) isZero() bool { return c == campaign{} }

// clickID is what an advertising network calls the click that led here.
type clickID struct{ kind, value string }

// read takes what a context says; what it does not say stays as it is.
func (c *callContext) read(object string) {
	if object == "" {
		return
	}
	for name, value := range members(object) {
		switch unquote(name) {
		case "ip":
			set(&c.ip, value)
		case "userAgent":
			set(&c.userAgent, value)
		case "locale":
			set(&c.locale, value)
		case "sessionId", "session_id":
			set(&c.session, value)
		case "page":
			c.page.read(value)
		case "campaign":
			c.campaign.read(value)
		case "app":
			if isObject(value) {
				for name, value := range members(value) {
					switch unquote(name) {
					case "name":
						set(&c.app.name, value)
					case "version":
						set(&c.app.version, value)
					default:
					}
				}
			}
		case "traits":
			if isObject(value) {
				c.traits = value
			}
		case "referrer":
			c.readReferrer(value)
		default:
			if k := clickKind(unquote(name)); k != "" && plainText(value) != "" {
				c.click.prefer(k, plainText(value))
			}
		}
	}
}

// readReferrer reads context.referrer: the URL itself, or an object with one.
func (c *callContext) readReferrer(value string) {
	if isString(value) {
		set(&c.referrerLink, value)
		return
	}
	if !isObject(value) {
		return
	}
	for name, value := range members(value) {
		switch unquote(name) {
		case "url", "link":
			set(&c.referrerLink, value)
		default:
		}
	}
}

// read takes a page object: context.page, or the properties of a page call.
func (p *pageContext) read(object string) {
	if !isObject(object) {
		return
	}
	for name, value := range members(object) {
		switch unquote(name) {
		case "path":
			set(&p.path, value)
		case "url":
			set(&p.url, value)
		case "referrer":
			set(&p.referrer, value)
		case "search":
			set(&p.search, value)
		case "title":
			set(&p.title, value)
		default:
		}
	}
}

func (c *campaign) read(object string) {
	if !isObject(object) {
		return
	}
	for name, value := range members(object) {
		switch unquote(name) {
		case "id":
			set(&c.id, value)
		case "name", "campaign":
			set(&c.name, value)
		case "source":
			set(&c.source, value)
		case "medium":
			set(&c.medium, value)
		case "term":
			set(&c.term, value)
		case "content":
			set(&c.content, value)
		default:
		}
	}
}

// set takes a string or a number; anything else says nothing.
func set(to *string, raw string) {
	if text := plainText(raw); text != "" {
		*to = text
	}
}

// pathOf is the page's path, out of its URL where it is not said.
func (p *pageContext) pathOf() string {
	if p.path != "" || p.url == "" {
		return p.path
	}
	if u, err := url.Parse(p.url); err == nil {
		return u.EscapedPath()
	}
	return ""
}

// query is the page's query without the question mark.
func (p *pageContext) query() string {
	if p.search != "" {
		return strings.TrimPrefix(p.search, "?")
	}
	_, query, _ := strings.Cut(p.url, "?")
	query, _, _ = strings.Cut(query, "#")
	return query
}

// address is an IP address as text, or nothing.
func address(s string) string {
	if s == "" {
		return ""
	}
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}
