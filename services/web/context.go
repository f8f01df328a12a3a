package web

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
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
	// rest is what has no field of its own, in the order of its first coming.
	rest []contextMember
}

// contextMember is a member of a context: its name unquoted, its value as it came.
type contextMember struct{ name, value string }

// maxContext is what context_json may hold, in bytes.
const maxContext = 32768

// keep takes a member that has no field of its own; the later one of a name counts.
func (c *callContext) keep(name, value string) {
	for i := range c.rest {
		if c.rest[i].name == name {
			// A batch's defaults are shared by its calls.
			c.rest = slices.Clone(c.rest)
			c.rest[i].value = value
			return
		}
	}
	c.rest = append(c.rest, contextMember{name, value})
}

// json is the rest as a JSON object, or nothing.
func (c *callContext) json() string {
	size := 0
	for _, m := range c.rest {
		size += len(m.name) + len(m.value) + 4
	}
	if size == 0 || size > maxContext {
		return ""
	}
	b := make([]byte, 0, size+2)
	for _, m := range c.rest {
		b = append(b, ',')
		quoted, err := jsontext.AppendQuote(b, m.name)
		if err != nil {
			return ""
		}
		b = append(append(quoted, ':'), m.value...)
	}
	b[0] = '{'
	return string(append(b, '}'))
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
			member := unquote(name)
			if k := clickKind(member); k != "" && plainText(value) != "" {
				c.click.prefer(k, plainText(value))
				continue
			}
			c.keep(member, value)
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
