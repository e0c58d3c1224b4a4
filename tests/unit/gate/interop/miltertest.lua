-- The gate as OpenDKIM's miltertest sees it:  miltertest -D socket=PATH -s miltertest.lua
conn = mt.connect("unix:" .. socket)
if conn == nil then error("cannot connect") end
local function answer(want, what)
  local got = mt.getreply(conn)
  if got ~= want then error(what .. ": reply " .. tostring(got)) end
end
if mt.conninfo(conn, "localhost", "192.0.2.1") ~= nil then error("conninfo") end
answer(SMFIR_CONTINUE, "connect")
if mt.helo(conn, "client.test") ~= nil then error("helo") end
answer(SMFIR_CONTINUE, "helo")
for round = 1, 3 do
  mt.macro(conn, SMFIC_MAIL, "i", "QUEUE" .. round, "{auth_authen}", "alice")
  if mt.mailfrom(conn, "<refuse@hoge.test>") ~= nil then error("mail") end
  answer(SMFIR_REPLYCODE, "refused sender")
  if mt.mailfrom(conn, "<a@hoge.test>") ~= nil then error("mail") end
  answer(SMFIR_CONTINUE, "sender")
  if mt.rcptto(conn, "<b@other.test>") ~= nil then error("rcpt") end
  answer(SMFIR_CONTINUE, "recipient")
  mt.header(conn, "Subject", "hello")
  mt.header(conn, "X-Twice", "one")
  mt.header(conn, "X-Twice", "two")
  mt.header(conn, "X-Do", round == 2 and "refuse-body" or "everything")
  mt.eoh(conn)
  mt.bodystring(conn, "This is a test.\r\n")
  mt.eom(conn)
  if round == 2 then
    answer(SMFIR_REPLYCODE, "refused message")
  else
    answer(SMFIR_CONTINUE, "message")
    if not mt.eom_check(conn, MT_HDRADD, "X-Gate") then error("no header added") end
    if not mt.eom_check(conn, MT_HDRINSERT, "Received") then error("no header inserted") end
    if not mt.eom_check(conn, MT_HDRCHANGE, "X-Twice") then error("no header changed") end
    if not mt.eom_check(conn, MT_HDRDELETE, "X-Twice") then error("no header deleted") end
    if not mt.eom_check(conn, MT_BODYCHANGE, "All new.\r\n") then error("body not replaced") end
    if not mt.eom_check(conn, MT_RCPTADD, "<added@local.test>") then error("no recipient added") end
  end
end
mt.disconnect(conn)
mt.echo("miltertest: all as expected")
