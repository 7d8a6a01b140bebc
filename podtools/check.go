package main

import (
	"context"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"time"
)

// Vendors' tools take seconds when a driver has just been loaded; one that hangs is a broken card.
const checkLimit = 60 * time.Second

// card is one device as the vendor's tool names it.
type card struct {
	UID    string `json:"uid"`
	Model  string `json:"model"`
	Memory int64  `json:"memory_mib"`
}

// check writes the cards that this container sees into message, its termination message, which is
// readable with no more than the right to see pods. line: the vendor's command, one line per card:
// id, model, MiB. Whether these are the cards that were ordered is decided by who reads it.
func check(message, line string) error {
	patience, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	said, err := ask(patience, line)
	if err != nil {
		os.WriteFile(message, []byte("the check of the cards failed"), 0o644)
		return err
	}
	cards := []card{}
	for _, row := range strings.Split(string(said), "\n") {
		field := strings.SplitN(row, ",", 3)
		for len(field) < 3 {
			field = append(field, "")
		}
		if uid := strings.TrimSpace(field[0]); uid != "" {
			cards = append(cards, card{uid, strings.TrimSpace(field[1]), mebibytes(field[2])})
		}
	}
	found, err := json.Marshal(map[string][]card{"devices": cards})
	if err != nil {
		return err
	}
	return os.WriteFile(message, found, 0o644)
}

// mebibytes is zero for what is no number, which is no card's memory.
func mebibytes(text string) int64 {
	whole, _, _ := strings.Cut(strings.TrimSpace(text), ".")
	value, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0
	}
	return value
}
