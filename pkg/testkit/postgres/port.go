package postgres

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"syscall"
)

// port is a free port on 127.0.0.1 for a server that is not always there.
//
// On Linux it is kept by a socket that is bound and never listens, which
// refuses connections, keeps the kernel from giving the port to anybody who
// asks for any, and lets a server bind to it that sets SO_REUSEADDR, as
// PostgreSQL does. Elsewhere the port may be taken while the server is down.
type port struct {
	number int
	holder *os.File // nil where it can't be held
}

func reservePort() (_ *port, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("find a free port on 127.0.0.1: %w", err)
		}
	}()
	// No child may inherit it between the two calls.
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}
	p := &port{holder: os.NewFile(uintptr(fd), "port of PostgreSQL")}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return nil, errors.Join(err, p.close())
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, errors.Join(err, p.close())
	}
	address, err := syscall.Getsockname(fd)
	if err != nil {
		return nil, errors.Join(err, p.close())
	}
	v4, ok := address.(*syscall.SockaddrInet4)
	if !ok {
		return nil, errors.Join(fmt.Errorf("bound to %T", address), p.close())
	}
	p.number = v4.Port
	if runtime.GOOS != "linux" {
		return p, p.close()
	}
	return p, nil
}

// url is how a role reaches a database of the server on the port.
func (p *port) url(role, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(role), Path: "/" + database,
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number)),
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

func (p *port) close() error {
	if p == nil || p.holder == nil {
		return nil
	}
	holder := p.holder
	p.holder = nil
	return holder.Close()
}
