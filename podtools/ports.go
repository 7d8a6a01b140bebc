package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

const (
	mostPorts = 64
	// Of a table of sockets: 25,000 connections. What listens comes first.
	mostTable = 4 << 20
	inListen  = "0A"
)

// openPorts is at which TCP ports something in this machine can be reached, in ascending order; nil
// where the kernel does not say. What listens for the machine itself alone is no way in.
func openPorts(folder string) *[]int {
	seen, known := map[int]bool{}, false
	for _, table := range []string{"tcp", "tcp6"} {
		file, err := os.Open(filepath.Join(folder, table))
		if err != nil {
			continue
		}
		known = true
		lines := bufio.NewScanner(io.LimitReader(file, mostTable))
		for lines.Scan() {
			if port := listensAt(strings.Fields(lines.Text())); port > 0 {
				seen[port] = true
			}
		}
		file.Close()
	}
	if !known {
		return nil
	}
	found := make([]int, 0, len(seen))
	for port := range seen {
		found = append(found, port)
	}
	sort.Ints(found)
	if len(found) > mostPorts {
		found = found[:mostPorts]
	}
	return &found
}

// listensAt reads a line of such a table: number, local address, remote address, state and more.
// Zero for any other socket. Addresses are words of the machine's byte order, in hexadecimal digits.
func listensAt(fields []string) int {
	if len(fields) < 4 || fields[3] != inListen {
		return 0
	}
	address, port, found := strings.Cut(fields[1], ":")
	number, err := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || isLoopback(address) {
		return 0
	}
	return int(number)
}

func isLoopback(address string) bool {
	const mapped, one = "0000000000000000FFFF0000", "00000000000000000000000001000000"
	four := strings.TrimPrefix(address, mapped)
	return address == one || len(four) == 8 && strings.HasSuffix(four, "7F")
}
